"""The operator's three commands on the running lab: what they show is what clients did."""

import contextlib
import json
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from conftest import REPOSITORY, Service, node
from operating import client, script, story, stream, words
from rackserve.definition.load import load_inventory
from rackserve.fleet.prometheus import Question, ask
from rackserve.fleet.ssh import Host, host_of
from rackserve.fleet.status.queries import QUESTION
from rackserve.traffic_log.history.engine import question

MONITOR = "lb2"


def test_a_stream_is_one_timeline_from_balancer_to_last_token(service: Service) -> None:
    began = time.time()
    raw = stream(service)
    for _ in raw.parse():
        pass
    ended = time.time()
    found = story(raw.headers["x-request-id"])
    told = words(found)
    stages = ["request comes in", "whole request read", "engine has it", "first token", "last token", "answered"]
    assert [word for word in told if word in stages] == stages
    moments = [entry["at"] for entry in found["entries"]]
    assert moments == sorted(moments)
    assert began - 1 < moments[0] <= moments[-1] < ended + 11
    assert "16 tokens" in found["entries"][told.index("answered")]["detail"]


def test_a_client_that_leaves_is_told_as_such(service: Service) -> None:
    raw = stream(service, tokens=1024)
    events = iter(raw.parse())
    next(events)
    next(events)
    raw.http_response.close()
    assert "the client left in the middle of the answer" in words(story(raw.headers["x-request-id"]))


def test_a_refusal_is_told_with_its_reason(service: Service) -> None:
    answer = httpx.post(
        f"{service.urls['lb2']}/v1/chat/completions",
        json={"model": "nobody", "messages": []},
        headers={"authorization": f"Bearer {service.key}"},
        timeout=10,
    )
    found = story(answer.headers["x-request-id"])
    assert words(found)[0] == "request comes in"
    assert answer.json()["error"]["code"] in words(found)[-1]
    assert {entry["node"] for entry in found["entries"]} == {"lb2"}


def test_an_id_that_nobody_has_is_nowhere() -> None:
    assert script("logs", "00000000-dead-beef-0000-000000000000", "--since", "1h").returncode == 1


def test_status_shows_live_figures_of_a_healthy_lab(service: Service) -> None:
    for _ in stream(service).parse():
        pass
    done = script("status", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert [(one["name"], one["state"]) for one in seen["engines"] if one["state"] != "up"] == []
    assert [one["configuration"] for one in seen["balancers"]] == ["as the inventory"] * 2
    assert sorted(one["holds_address"] for one in seen["balancers"]) == [False, True]
    assert seen["monitor"] == MONITOR
    assert 0 <= seen["figures_age_seconds"] < 60


def test_every_metric_that_the_commands_ask_for_is_in_prometheus(service: Service) -> None:
    """But those of the SLO rules, which need minutes of traffic; a unit test holds their names together."""
    for _ in stream(service).parse():
        pass
    expressions = [*QUESTION.instant.values(), *question("small", 900).instant.values()]
    names = {name for one in expressions for name in re.findall(r"\b(?:rackserve_|vllm:)[a-z0-9_:]+", one)}
    assert {"rackserve_requests_total", "vllm:request_queue_time_seconds_bucket"} <= names
    inventory = load_inventory(REPOSITORY / "inventory" / "lab")
    host = host_of(MONITOR, inventory.hosts[MONITOR])
    counts = Question({name: f'count({{__name__="{name}"}})' for name in sorted(names)})
    ends = time.monotonic() + 40
    while missing := sorted(names - _known(host, inventory.plan["ports"]["prometheus"], counts)):
        assert time.monotonic() < ends, f"after two scrapes Prometheus does not know {missing}"
        time.sleep(2)


def _known(host: Host, port: int, counts: Question) -> set[str]:
    answer = ask(host, port, counts, 30)
    return {name for name in counts.instant if answer.of(name)}


@contextlib.contextmanager
def without_prometheus() -> Iterator[None]:
    node(MONITOR, "systemctl", "stop", "prometheus.service")
    try:
        yield
    finally:
        node(MONITOR, "systemctl", "start", "prometheus.service")


def test_without_prometheus_the_balancers_own_view_stays_and_the_reason_is_told() -> None:
    with without_prometheus():
        began = time.monotonic()
        done = script("status")
        took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert took < 8
    assert "no figures from Prometheus" in done.stdout.splitlines()[0]
    missing = next(line for line in done.stdout.splitlines() if line.startswith("MISSING Prometheus"))
    assert "198.18.0.12" in missing
    assert "refused" in missing.lower()
    assert "small-gpu1" in done.stdout


@pytest.mark.parametrize("pool", ["small"])
def test_time_is_explained_from_the_lines_of_both_balancers(service: Service, pool: str) -> None:
    for balancer in ("lb1", "lb2"):
        client(service, balancer).chat.completions.create(
            model=pool, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
    done = script("explain-latency", "--pool", pool, "--since", "15m", "--json")
    assert done.returncode == 0, done.stderr
    lane = json.loads(done.stdout)["lanes"][0]
    shares = {stage["stage"]: stage["share_ratio"] for stage in lane["stages"]}
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    assert shares.get("whole answer", 0) + shares.get("first token", 0) + shares.get("tokens", 0) > 0.5, shares
