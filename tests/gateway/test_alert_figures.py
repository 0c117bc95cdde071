"""What HAProxy's own page says of queues and engines: the alerts read it, and promtool believes any figure."""

import re
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.asking import CONTEXT, chat
from gateway.balancer import Balancer, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, default_lanes, default_pools, plan
from gateway.stub import Stub
from gateway.test_operational_rules import GROUPS

Figures = dict[tuple[str, str, str, str], float]
"""By metric, proxy, server and state; those that a metric has none of are empty."""


def figures(balancer: Balancer) -> Figures:
    page = httpx.get(f"{balancer.private_url}/metrics", timeout=5, verify=CONTEXT).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    found: Figures = {}
    for sample in samples:
        proxy, server, state = (sample.labels.get(label, "") for label in ("proxy", "server", "state"))
        found[sample.name, proxy, server, state] = sample.value
    return found


def states(balancer: Balancer, engine: str) -> dict[str, str]:
    """State of the engine by backend; fails where it has none or several."""
    found: dict[str, str] = {}
    for (name, proxy, server, state), value in figures(balancer).items():
        if name == "haproxy_server_status" and server == engine and value == 1:
            assert proxy not in found, f"{proxy}/{engine} is {found[proxy]} and {state}"
            found[proxy] = state
    return found


def test_the_page_has_every_figure_of_haproxy_that_rules_read(balancer: Balancer) -> None:
    text = " ".join(rule["expr"] for group in GROUPS for rule in group["rules"])
    read = set(re.findall(r"\bhaproxy_\w+", text))
    assert len(read) >= 4
    assert read - {name for name, *_ in figures(balancer)} == set()


@pytest.fixture
def roomy(restored: Balancer, balancer: Balancer, stub_address: str) -> Balancer:
    """The pool narrow with one slot and eight places; batch waits in the room in front of the queue."""
    lanes, pools = default_lanes(), default_pools()
    lanes["batch"]["slots_percent"] = 50
    pools["narrow"]["queue"] |= {"max_requests": 8, "timeout_seconds": 8}
    balancer.reload(candidate(plan(stub_address, FIRST_PORT, pools, lanes)))
    eventually(balancer.all_up, "every engine in service")
    return balancer


def waiting(balancer: Balancer, pool: str) -> float:
    """As the alert has it: sessions of the backends that no server has."""
    found = figures(balancer)
    of_pool = re.compile(rf"pool-{pool}-(stable|baseline|canary)")
    total = {
        side: sum(value for (name, proxy, *_), value in found.items() if name == metric and of_pool.fullmatch(proxy))
        for side, metric in (
            ("backend", "haproxy_backend_current_sessions"),
            ("server", "haproxy_server_current_sessions"),
        )
    }
    return total["backend"] - total["server"]


def test_whoever_waits_is_counted_in_the_queue_and_in_the_room(roomy: Balancer, stub: Stub, crowd: Crowd) -> None:
    answers = [crowd.ask(chat("narrow", ttft=1.5))]
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    assert waiting(roomy, "narrow") == 0
    answers += [crowd.ask(chat("narrow")) for _ in range(2)]
    eventually(lambda: waiting(roomy, "narrow") == 2, "two in the queue")
    answers += [crowd.ask(chat("narrow"), tenant="batch") for _ in range(3)]
    eventually(lambda: waiting(roomy, "narrow") == 5, "two in the queue and three in the room")
    queue = figures(roomy)["haproxy_backend_current_queue", "pool-narrow-stable", "", ""]
    assert queue == 2, "HAProxy's own figure does not see the room"
    assert [answer.result().status_code for answer in answers] == [200] * 6
    eventually(lambda: waiting(roomy, "narrow") == 0, "nobody waits any more")


def test_requests_that_wait_for_one_engine_are_counted_too(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    """With a hash HAProxy may queue a request at a server instead of the backend. 24 slots."""
    answers = [crowd.ask(chat("hashed", content="the same beginning", ttft=1.5)) for _ in range(30)]
    eventually(lambda: waiting(balancer, "hashed") == 6, "six of thirty wait")
    assert [answer.result().status_code for answer in answers] == [200] * 30


Act = Callable[[Balancer, Stub], object]


@pytest.mark.parametrize(
    ("act", "checked", "broken", "track"),
    [
        (lambda balancer, stub: None, "UP", "UP", "UP"),
        (lambda balancer, stub: setattr(stub.engines["duo-1"], "healthy", False), "DOWN", "DOWN", "DOWN"),
        (lambda balancer, stub: balancer.runtime("set server engines/duo-1 state drain"), "DRAIN", "DRAIN", "DRAIN"),
        (lambda balancer, stub: balancer.runtime("set server engines/duo-1 state maint"), "MAINT", "MAINT", "MAINT"),
        # As the breaker does it.
        (lambda balancer, stub: balancer.runtime("set server breakers/duo-1 state maint"), "UP", "MAINT", "MAINT"),
    ],
    ids=["well", "fails-its-check", "drained", "taken-out", "breaker-open"],
)
def test_each_state_of_an_engine_is_told_apart(
    balancer: Balancer, stub: Stub, act: Act, checked: str, broken: str, track: str
) -> None:
    wanted = {"engines": checked, "breakers": broken, "pool-duo-stable": track}
    try:
        act(balancer, stub)
        eventually(lambda: states(balancer, "duo-1").items() >= wanted.items(), f"{wanted}")
        assert states(balancer, "duo-1")["pool-duo-canary"] == "MAINT", "it is no canary"
    finally:
        for backend in ("engines", "breakers"):
            balancer.runtime(f"set server {backend}/duo-1 state ready")
