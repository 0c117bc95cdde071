"""The breaker: what opens it, what never does, the trial, and that it leaves operators, reloads and budgets alone."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import STATE, Balancer, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, plan
from gateway.stub import Stub

ERRORS = 4


def with_breakers(address: str) -> dict[str, Any]:
    service = plan(address, FIRST_PORT)
    for name in ("narrow", "wide"):
        service["pools"][name]["breaker"] = {"errors": ERRORS, "window_seconds": 60, "open_seconds": 3}
    # Checks that take too long to notice anything, so that only the breaker can.
    service["pools"]["many"]["health"]["fall"] = 1000
    service["pools"]["many"]["retries"] = {"attempts": 2, "budget_percent": 10}
    service["pools"]["duo"]["health"]["slow_start_seconds"] = 60
    return service


@pytest.fixture
def balancer(restored: Balancer, balancer: Balancer, stub_address: str) -> Balancer:
    """A reload forgets every count."""
    balancer.node.run(f"rm -f {STATE}/server-state")
    balancer.reload(candidate(with_breakers(stub_address), haproxy_retry_after_seconds=5 + secrets.randbelow(9000)))
    eventually(balancer.all_up, "every engine in service")
    return balancer


def state(balancer: Balancer, engine: str) -> str:
    return balancer.statistics()["breakers", engine]["status"]


def is_open(balancer: Balancer, engine: str) -> Callable[[], bool]:
    return lambda: state(balancer, engine) == "MAINT"


def events(balancer: Balancer, engine: str) -> list[str]:
    return [line for line in balancer.log_lines() if '"event":"breaker' in line and f'"{engine}"' in line]


def fail(client: httpx.Client, times: int, model: str = "narrow", **how: Any) -> None:
    for _ in range(times):
        stream(client, chat(model, content=secrets.token_hex(8), stream="cut_after" in how, **how))


@pytest.mark.parametrize(
    "how",
    [{"status": 500}, {"hang_up": True}, {"nonsense": True}, {"ttft": 25}, {"tokens": 5, "cut_after": 2}],
    ids=lambda how: next(iter(how)),
)
def test_errors_open_it_at_their_number_and_an_answer_closes_it(
    client: httpx.Client, balancer: Balancer, stub: Stub, how: dict[str, Any], stub_address: str
) -> None:
    if "ttft" in how:
        service = with_breakers(stub_address)
        service["pools"]["narrow"]["timeouts"]["generation_seconds"] = 0.5
        balancer.reload(candidate(service))
    fail(client, ERRORS - 1, **how)
    assert client.post(CHAT, json=chat("narrow")).status_code == 200, "one error less leaves it closed"
    assert state(balancer, "narrow-1") == "UP"
    fail(client, 1, **how)
    eventually(is_open(balancer, "narrow-1"), "the breaker of narrow-1 open")
    seen = len(stub.seen())
    refused = client.post(CHAT, json=chat("narrow"))
    assert (refused.status_code, error_of(refused)["code"]) == (503, "no_engine")
    assert len(stub.seen()) == seen, "the engine gets nothing"
    eventually(lambda: client.post(CHAT, json=chat("narrow")).status_code == 200, "a trial that succeeds")
    eventually(lambda: "breaker_closed" in events(balancer, "narrow-1")[-1], "closed, and said so")
    assert balancer.statistics()["pool-narrow-stable", "narrow-1"]["slim"] == "1"


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_what_an_engine_says_on_purpose_never_opens_it(client: httpx.Client, balancer: Balancer, status: int) -> None:
    before = events(balancer, "narrow-1")
    fail(client, ERRORS * 3, status=status)
    fail(client, ERRORS - 1, status=500)
    assert client.post(CHAT, json=chat("narrow")).status_code == 200
    assert events(balancer, "narrow-1") == before
    assert state(balancer, "narrow-1") == "UP"


def test_a_failed_trial_opens_it_again_and_a_trial_is_one_request_at_a_time(
    client: httpx.Client, balancer: Balancer, stub: Stub, crowd: Crowd
) -> None:
    stub.engines["wide-2"].healthy = False
    eventually(lambda: balancer.state("wide-2") == "DOWN", "only wide-1 left")
    fail(client, ERRORS, "wide", status=500)
    eventually(is_open(balancer, "wide-1"), "open")
    eventually(lambda: not is_open(balancer, "wide-1")(), "half open")
    stub.engines["wide-1"].peak = 0
    answers = [crowd.ask(chat("wide", ttft=0.4, status=500)) for _ in range(4)]
    assert 500 in {answer.result().status_code for answer in answers}
    eventually(lambda: "the trial failed" in str(events(balancer, "wide-1")), "open again")
    assert stub.engines["wide-1"].peak == 1


def test_an_operators_drain_outlives_the_breaker(client: httpx.Client, balancer: Balancer, stub: Stub) -> None:
    fail(client, ERRORS, status=500)
    eventually(is_open(balancer, "narrow-1"), "open")
    balancer.runtime("set server engines/narrow-1 state drain")
    try:
        eventually(lambda: not is_open(balancer, "narrow-1")(), "half open")
        stub.engines["narrow-1"].seen.clear()
        assert client.post(CHAT, json=chat("narrow")).status_code == 503
        assert balancer.statistics()["pool-narrow-stable", "narrow-1"]["status"].startswith("DRAIN")
        assert not stub.seen("narrow-1")
    finally:
        balancer.runtime("set server engines/narrow-1 state ready")
    eventually(lambda: client.post(CHAT, json=chat("narrow")).status_code == 200, "back after the operator's word")


def test_an_open_breaker_survives_a_reload_and_closes_after_it(
    client: httpx.Client, balancer: Balancer, stub_address: str
) -> None:
    service = with_breakers(stub_address)
    service["pools"]["narrow"]["breaker"]["open_seconds"] = 4
    balancer.reload(candidate(service))
    fail(client, ERRORS, status=500)
    eventually(is_open(balancer, "narrow-1"), "open")
    service["pools"]["narrow"]["queue"]["max_requests"] += 1
    changed = candidate(service)
    balancer.put(changed)
    # As the service does before a reload.
    balancer.node.run(f"cat > {STATE}/server-state", balancer.runtime("show servers state").encode())
    balancer.signal_reload()
    balancer.wait_for(changed.digest)
    assert state(balancer, "narrow-1") == "MAINT"
    eventually(lambda: client.post(CHAT, json=chat("narrow")).status_code == 200, "half open, then closed")


def test_retries_stay_within_their_budget(client: httpx.Client, balancer: Balancer, stub: Stub) -> None:
    stub.refuse("many-1")

    def taken_out() -> bool:
        assert client.post(CHAT, json=chat("many")).status_code == 200
        return state(balancer, "many-1") == "MAINT"

    eventually(taken_out, "who refuses connections is taken out")
    eventually(lambda: "over the budget" in str(events(balancer, "many-1")), "the reason in the log")
    before = int(balancer.statistics()["pool-many-stable", "many-1"]["wredis"])
    for _ in range(20):
        assert client.post(CHAT, json=chat("many")).status_code == 200
    assert int(balancer.statistics()["pool-many-stable", "many-1"]["wredis"]) == before


def test_after_a_recovery_the_load_rises_slowly(balancer: Balancer, stub: Stub) -> None:
    stub.engines["duo-1"].healthy = False
    eventually(lambda: balancer.state("duo-1") == "DOWN", "duo-1 out")
    stub.engines["duo-1"].healthy = True
    eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back")
    rows = balancer.statistics()
    assert int(rows["pool-duo-stable", "duo-1"]["weight"]) < int(rows["pool-duo-stable", "duo-2"]["weight"])
    assert int(rows["pool-duo-stable", "duo-1"]["throttle"]) < 50
