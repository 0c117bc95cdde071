"""Two balancers side by side: what a tenant uses at one counts at the other, and places are shared."""

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, NODE, UNIT, limit, plan
from gateway.stub import Stub

OTHER = "gw2"
APART = 10


@pytest.fixture
def pair(balancer: Balancer, stub_address: str) -> Iterator[Callable[..., tuple[Balancer, Balancer]]]:
    """The balancer and a second one on the same node, on ports of its own."""
    node = balancer.node
    base = plan(stub_address, FIRST_PORT)["ports"]
    ports = {NODE: base, OTHER: {name: port + APART for name, port in base.items()}}
    second = Balancer(node, ports[OTHER]["api"], ports[OTHER]["stats"], unit=f"{UNIT}-second")
    second.prepare()

    def both(**limits: Any) -> tuple[Balancer, Balancer]:
        nodes = {
            name: {"address": node.address, "peers_port": own["peers"], "stats_port": own["stats"]}
            for name, own in ports.items()
        }
        for name, one in ((NODE, balancer), (OTHER, second)):
            service = limit(copy.deepcopy(plan(stub_address, FIRST_PORT)), "demo", None, **limits)
            service |= {"balancers": [NODE, OTHER], "nodes": nodes, "ports": ports[name]}
            one.start(candidate(service, name, unit=one.unit))
        for one in (balancer, second):
            eventually(one.all_up, "every engine in service")
            eventually(lambda one=one: sees_the_other(one), "the other balancer in service", 20)
        eventually(lambda: time.time() % 60 < 35, "the next minute", 60)
        return balancer, second

    yield both
    second.stop()
    balancer.start(candidate(plan(stub_address, FIRST_PORT)))
    eventually(balancer.all_up, "every engine in service")


def sees_the_other(one: Balancer) -> bool:
    return one.statistics()["balancers", "BACKEND"]["act"] == "1"


def ask(one: Balancer, **arguments: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    return httpx.post(f"{one.url}{CHAT}", json=chat("many", **arguments), headers=headers, timeout=15)


def table(one: Balancer, name: str, counter: int) -> int:
    lines = [line for line in one.runtime(f"show table used-{name}").splitlines() if "key=demo@" in line]
    return sum(int(line.split(f"gpc{counter}=")[1].split()[0]) for line in lines)


def test_requests_at_one_balancer_count_at_the_other(pair: Any) -> None:
    first, second = pair(requests_per_minute=4)
    assert [ask(first).status_code for _ in range(2)] == [200, 200]
    eventually(lambda: table(second, NODE, 0) == 2, "two requests known to the other")
    assert [ask(second).status_code for _ in range(2)] == [200, 200]
    assert ask(second).status_code == 429
    eventually(lambda: table(first, OTHER, 0) == 2, "two requests known to the first")
    assert ask(first).status_code == 429


def test_tokens_at_one_balancer_count_at_the_other(pair: Any) -> None:
    first, second = pair(tokens_per_minute=50)
    assert ask(first, tokens=43).status_code == 200
    eventually(lambda: table(second, NODE, 1) == 50, "fifty tokens known to the other")
    assert ask(second).status_code == 429


def test_both_at_once_overshoot_by_the_lag_of_the_tables_only(pair: Any) -> None:
    """Stated: what the other balancer admits within the lag of the tables, never more than twice the limit."""
    first, second = pair(requests_per_minute=20)
    # Alone, so that there is one entry each: see docs/traffic.md about a key's very first requests.
    answers = [ask(first).status_code, ask(second).status_code]
    with ThreadPoolExecutor(8) as pool:
        answers += pool.map(lambda number: ask((first, second)[number % 2]).status_code, range(80))
    assert 20 <= answers.count(200) <= 40
    eventually(lambda: table(first, OTHER, 0) + table(first, NODE, 0) == answers.count(200), "the same sums")
    assert (ask(first).status_code, ask(second).status_code) == (429, 429)


def test_places_are_shared_and_all_of_them_are_a_lone_balancers(pair: Any, stub: Stub) -> None:
    first, second = pair(concurrent_requests=3)
    assert [ask(first).status_code, ask(second).status_code] == [200, 200]
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    body = chat("many", stream=True, tokens=60, gap=0.05)
    with httpx.Client(base_url=first.url, headers=headers, timeout=15) as client, ThreadPoolExecutor(3) as pool:
        running = [pool.submit(stream, client, body) for _ in range(2)]
        eventually(lambda: sum(engine.running for engine in stub.engines.values()) == 2, "two streams")
        # Half of three, rounded up, is two: with both balancers at most one more than the limit.
        assert ask(first).status_code == 429
        assert ask(second).status_code == 200
        second.stop()
        eventually(lambda: not sees_the_other(first), "the other balancer missed", 20)
        running.append(pool.submit(stream, client, body))
        eventually(lambda: sum(engine.running for engine in stub.engines.values()) == 3, "a third stream")
        assert ask(first).status_code == 429
        assert all(one.result().complete for one in running)
