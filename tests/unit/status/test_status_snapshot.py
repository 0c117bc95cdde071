"""From what hosts answer to the snapshot: what is added up, what is told apart, and what is said to be missing."""

import time
from typing import Any

import pytest
from rackserve.fleet.errors import TimedOutError, UnreachableError
from rackserve.fleet.ssh import CommandHost
from rackserve.fleet.status import queries
from rackserve.fleet.status.observe import observe
from rackserve.fleet.status.snapshot import Snapshot
from rackserve.slo.buckets import METRICS
from rackserve.slo.events import BAD, REQUESTS
from rackserve.slo.rules import BUDGET_LEFT, EXHAUSTION
from unit.status.playing import WATCHDOG, PlayedHost, alert, balancer, fleet, monitor, sample

DOWN = UnreachableError("192.0.2.2", "admin_socket", "no route to host")
NO_PROMETHEUS = UnreachableError("192.0.2.3", "prometheus", "no route to host")


def whole() -> Snapshot:
    return seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], [monitor("m1"), monitor("m2")])


def seen(balancers: list[Any], monitors: list[Any], **changes: Any) -> Snapshot:
    return observe(fleet(balancers, monitors, **changes), deadline_seconds=5, clock=lambda: 1_764_403_200.0)


def why(snapshot: Snapshot) -> dict[str, str]:
    return {one.what: one.why for one in snapshot.missing}


def test_balancers_are_added_up_and_a_waiting_room_is_what_neither_runs_nor_queues() -> None:
    pool = whole().pools[0]
    assert (pool.in_flight, pool.slots, pool.queued, pool.waiting_room) == (10, 16, 6, 2)
    assert [(one.track, one.release, one.engines_up, one.engines) for one in pool.tracks] == [
        ("stable", "small-1", 2, 2)
    ]
    means = [pool.mean_queue_seconds, pool.mean_first_byte_seconds, pool.mean_answer_seconds]
    assert means == pytest.approx([0.05, 0.15, 2])


def test_with_everything_there_nothing_is_missing() -> None:
    snapshot = whole()
    assert snapshot.missing == ()
    assert snapshot.as_dict()["complete"] is True
    assert (snapshot.monitor, snapshot.figures_age_seconds) == ("m1", 8)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "up"),
        ({("engines", "e1"): {"status": "DOWN"}}, "down"),
        ({("engines", "e1"): {"status": "DOWN 1/2"}}, "down"),
        ({("engines", "e1"): {"status": "UP 1/3"}}, "going down"),
        ({("engines", "e1"): {"status": "DRAIN"}}, "drained"),
        ({("engines", "e1"): {"status": "MAINT"}}, "maintenance"),
        ({("breakers", "e1"): {"status": "MAINT"}}, "breaker open"),
        ({("breakers", "e1"): {"status": "MAINT (via engines/e1)"}}, "up"),
        ({("pool-small-stable", "e1"): {"status": "MAINT"}}, "out of its pool"),
    ],
)
def test_the_state_of_an_engine_is_what_keeps_it_from_work(changes: Any, state: str) -> None:
    snapshot = seen([balancer("lb1", changes), balancer("lb2", changes)], [monitor("m1")])
    assert snapshot.engines[0].state == state
    assert sum(one.engines_up or 0 for one in snapshot.pools[0].tracks) == (2 if state == "up" else 1)


def test_an_engine_on_which_the_balancers_differ_is_told_by_balancer_and_not_up() -> None:
    snapshot = seen([balancer("lb1", {("engines", "e1"): {"status": "DOWN"}}), balancer("lb2")], [monitor("m1")])
    assert snapshot.engines[0].state == "down at lb1, up at lb2"
    assert snapshot.pools[0].tracks[0].engines_up == 1
    assert snapshot.pools[0].slots == 8, "only slots of engines in service"


def test_an_engine_moved_to_the_canary_is_counted_there() -> None:
    moved: dict[tuple[str, str], Any] = {
        ("pool-small-stable", "e2"): {"status": "MAINT"},
        ("pool-small-canary", "e2"): {"status": "UP", "scur": 1},
    }
    snapshot = seen([balancer("lb1", moved), balancer("lb2", moved)], [monitor("m1")])
    assert [(one.track, one.engines_up) for one in snapshot.pools[0].tracks] == [("stable", 1), ("canary", 1)]


def test_a_balancer_that_is_down_is_named_and_the_other_is_shown() -> None:
    down = PlayedHost("lb2", {"admin_socket": DOWN})
    snapshot = seen([balancer("lb1", held=["192.0.2.10"]), down], [monitor("m1")])
    assert [one.answers for one in snapshot.balancers] == [True, False]
    assert list(why(snapshot)) == ["balancer lb2"]
    assert "192.0.2.2: could not be reached" in why(snapshot)["balancer lb2"]
    assert snapshot.pools[0].in_flight == 5
    assert not snapshot.blind


def test_without_prometheus_the_balancers_own_view_stays_and_the_reason_is_told() -> None:
    monitors = [PlayedHost(name, {"prometheus": NO_PROMETHEUS}) for name in ("m1", "m2")]
    snapshot = seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], monitors)
    assert snapshot.monitor is None
    assert (snapshot.users, snapshot.budgets, snapshot.alerts) == ((), (), ())
    assert "no route to host" in why(snapshot)["Prometheus: figures of users, budgets, alerts"]
    assert snapshot.pools[0].in_flight == 10


@pytest.mark.parametrize(
    ("stored", "since"), [([sample(151)], "151 s"), ([], "an hour")], ids=["since-two-minutes", "since-long"]
)
def test_a_prometheus_that_stores_nothing_any_more_is_told_with_what_to_look_at(stored: Any, since: str) -> None:
    balancers = [balancer("lb1", held=["192.0.2.10"]), balancer("lb2")]
    snapshot = seen(balancers, [monitor("m1", figures={"stored": stored})])
    told = why(snapshot)["new figures and alerts"]
    assert told.startswith(f"m1's Prometheus has stored nothing for {since}. Its disk full?")
    assert "df -h /var/lib/prometheus" in told


def test_an_inventory_without_monitors_says_so() -> None:
    snapshot = seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], [])
    assert "no host in monitors" in str(why(snapshot))


def test_the_second_monitor_answers_for_the_first() -> None:
    monitors = [PlayedHost("m1", {"prometheus": NO_PROMETHEUS}), monitor("m2")]
    assert seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], monitors).monitor == "m2"


def test_blind_only_when_nobody_at_all_answers() -> None:
    hosts = [PlayedHost(name, {"admin_socket": DOWN}) for name in ("lb1", "lb2")]
    nobody = seen(hosts, [PlayedHost("m1", {"prometheus": NO_PROMETHEUS})])
    assert nobody.blind
    pool = nobody.pools[0]
    assert (pool.in_flight, pool.slots, pool.tracks[0].engines_up) == (None, None, None), "never zero for unknown"
    assert nobody.engines[0].state == "unknown"
    assert not seen(hosts, [monitor("m1")]).blind


def test_figures_of_users_by_pool_and_lane() -> None:
    users = whole().users
    assert [(one.pool, one.lane) for one in users] == [("small", "interactive")], "lanes without traffic have no row"
    assert (users[0].requests_per_second, users[0].first_token_p95_seconds, users[0].answer_p95_seconds) == (
        2,
        0.25,
        4.5,
    )
    assert (users[0].refused_ratio, users[0].failed_ratio) == (0.25, 0)


def test_the_tightest_budget_comes_first_and_one_that_does_not_burn_has_no_end() -> None:
    assert [(one.slo, one.left_ratio, one.exhausted_in_seconds) for one in whole().budgets] == [
        ("tight", 0.05, 7200),
        ("roomy", 0.8, None),
    ]


def test_pages_come_before_tickets_and_neither_pending_alerts_nor_the_dead_man() -> None:
    alerts = [
        alert("ticket", "Disk", node="gpu1"),
        WATCHDOG,
        alert("page", "SloBurn", slo="tight"),
        alert("page", "Later", state="pending"),
    ]
    found = seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], [monitor("m1", alerts)]).alerts
    assert [(one.severity, one.name, one.runbook) for one in found] == [
        ("page", "SloBurn", "docs/runbooks/SloBurn.md"),
        ("ticket", "Disk", "docs/runbooks/Disk.md"),
    ]
    assert found[0].since == pytest.approx(1_795_914_123.5)


def test_what_prometheus_lacks_is_named() -> None:
    silent = monitor(
        "m1",
        alerts=[],
        figures={"unscraped": [sample(0, job="vllm", engine="e2", instance="192.0.2.22:8001")], "age": []},
        refused={"answer": "parse error"},
    )
    found = why(seen([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], [silent]))
    assert set(found) == {"figure answer", "vllm of e2", "alerts", "figures of users"}
    assert "parse error" in found["figure answer"]
    assert "Watchdog does not fire" in found["alerts"]


def test_a_configuration_that_differs_from_the_inventory_is_told_by_balancer() -> None:
    hosts = [balancer("lb1", held=["192.0.2.10"]), balancer("lb2", value="other")]
    assert [one.configuration for one in seen(hosts, [monitor("m1")]).balancers] == ["as the inventory", "differs"]
    unknown = seen(hosts, [monitor("m1")], digests={}, unrendered="haproxy_engine_key is missing")
    assert {one.configuration for one in unknown.balancers} == {"unknown"}
    assert "haproxy_engine_key" in str(why(unknown))


def test_a_virtual_address_that_nobody_holds_is_missing_only_if_all_were_asked() -> None:
    hosts: list[Any] = [balancer("lb1"), balancer("lb2")]
    assert "virtual address 192.0.2.10" in why(seen(hosts, [monitor("m1")]))
    hosts[1] = PlayedHost("lb2", {"admin_socket": DOWN})
    assert "virtual address 192.0.2.10" not in why(seen(hosts, [monitor("m1")]))


def test_addresses_that_cannot_be_read_cost_only_that_column() -> None:
    odd = balancer("lb2")
    odd.answers["addresses"] = TimedOutError("192.0.2.2", "addresses")
    snapshot = seen([balancer("lb1"), odd], [monitor("m1")])
    assert [one.holds_address for one in snapshot.balancers] == [False, None]
    assert snapshot.balancers[1].answers
    assert list(why(snapshot)) == ["virtual address at lb2"]


def test_hosts_that_hang_delay_the_screen_by_one_deadline_and_not_by_one_each() -> None:
    hanging = [CommandHost(name, "192.0.2.9", ("sleep", "60")) for name in ("lb1", "lb2", "m1", "m2")]
    began = time.monotonic()
    snapshot = observe(fleet(hanging[:2], hanging[2:]), deadline_seconds=1.5)
    assert time.monotonic() - began < 5, "one after the other would be 6 s"
    assert snapshot.blind
    assert sum(one.why.count("nothing within 1.5 s") for one in snapshot.missing) == 4


def test_the_names_of_metrics_are_those_that_are_exported() -> None:
    """The screen's queries against the names of the log service's metrics and of the SLO rules."""
    assert f"{METRICS['ttft']}_bucket" in queries.INSTANT["first_token"]
    assert f"{METRICS['response_time']}_bucket" in queries.INSTANT["answer"]
    assert all(REQUESTS in queries.INSTANT[name] for name in ("rate", "refused", "failed"))
    assert f'outcome=~"{"|".join(BAD)}"' in queries.INSTANT["failed"]
    assert queries.INSTANT["budget"] == BUDGET_LEFT
    assert queries.INSTANT["exhaustion"] == EXHAUSTION
