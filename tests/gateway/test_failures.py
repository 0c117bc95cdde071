"""Engines that refuse, fail, hang up or disappear: what the client sees, and what the balancer does about it."""

import secrets
import time

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import Balancer, eventually
from gateway.plan import ENGINE_KEY
from gateway.stub import Stub


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
def test_an_error_of_the_engine_passes_through_and_is_not_tried_again(
    client: httpx.Client, stub: Stub, status: int
) -> None:
    answer = client.post(CHAT, json=chat(status=status))
    assert answer.status_code == status
    assert error_of(answer)["message"] == "made by the stub"
    assert len(stub.seen()) == 1


def test_a_refused_connection_is_tried_again_on_another_engine(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    stub.refuse("duo-1")
    answers = [client.post(CHAT, json=chat()) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(stub.seen("duo-2")) == 6
    entries = [balancer.log_entry(answer.headers["x-request-id"]) for answer in answers]
    assert any(entry["retries"] == "+1" for entry in entries), [entry["retries"] for entry in entries]


def test_when_no_engine_accepts_connections_the_answer_is_503_at_once(client: httpx.Client, stub: Stub) -> None:
    stub.refuse("duo-1")
    stub.refuse("duo-2")
    answer = client.post(CHAT, json=chat())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    error = error_of(answer)
    # Before the health checks notice, then after.
    assert error["code"] in {"engine_unreachable", "no_engine"}, error
    assert answer.elapsed.total_seconds() < 0.5


def test_when_every_engine_is_out_the_answer_is_503_without_a_try(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    for name in ("duo-1", "duo-2"):
        stub.engines[name].healthy = False
    eventually(lambda: balancer.out("duo"), "both engines out")
    answer = client.post(CHAT, json=chat())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    error = {"message": "No engine of the pool duo is in service. Try again in 5 s.", "type": "server_error"}
    assert answer.json() == {"error": error | {"param": None, "code": "no_engine"}}
    assert not stub.seen()
    assert client.post(CHAT, json=chat("wide")).status_code == 200, "other pools are not concerned"


def test_the_health_path_fails_when_no_engine_of_any_pool_is_left(balancer: Balancer, stub: Stub) -> None:
    for engine in stub.engines.values():
        engine.healthy = False

    def failing() -> httpx.Response | None:
        answer = httpx.get(f"{balancer.url}/healthz")
        return answer if answer.status_code == 503 else None

    answer = eventually(failing, "/healthz answering 503")
    assert error_of(answer)["code"] == "no_engine"


def test_a_failing_health_check_takes_an_engine_out_and_a_good_one_brings_it_back(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    stub.engines["duo-1"].healthy = False
    eventually(lambda: balancer.state("duo-1") == "DOWN", "duo-1 out of service", seconds=2)
    assert [client.post(CHAT, json=chat()).status_code for _ in range(8)] == [200] * 8
    assert not stub.seen("duo-1")
    stub.engines["duo-1"].healthy = True
    eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back in service", seconds=2)
    for _ in range(8):
        client.post(CHAT, json=chat())
    assert stub.seen("duo-1")


def test_an_engine_that_goes_down_keeps_its_running_streams(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    stub.engines["duo-1"].healthy = stub.engines["duo-2"].healthy = True
    stub.engines["duo-2"].healthy = False
    eventually(lambda: balancer.state("duo-2") == "DOWN", "duo-2 out, so that the stream runs on duo-1")
    stub.engines["duo-1"].healthy = False
    seen = stream(client, chat(stream=True, gap=0.2, tokens=12))
    assert balancer.state("duo-1") == "DOWN"
    assert seen.complete


def test_a_prompt_that_kills_engines_reaches_only_one(client: httpx.Client, stub: Stub) -> None:
    answer = client.post(CHAT, json=chat(content=secrets.token_hex(8), hang_up=True))
    assert answer.status_code == 502
    assert error_of(answer)["code"] == "bad_gateway"
    assert len(stub.seen()) == 1


def test_an_answer_that_is_not_http_is_502(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=chat(nonsense=True))
    assert answer.status_code == 502
    assert error_of(answer)["code"] == "bad_gateway"


def test_a_drain_at_the_hidden_backend_moves_new_requests_only(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    balancer.runtime("set server engines/duo-1 state drain")
    try:
        assert [client.post(CHAT, json=chat()).status_code for _ in range(6)] == [200] * 6
        assert not stub.seen("duo-1")
    finally:
        balancer.runtime("set server engines/duo-1 state ready")
    for _ in range(6):
        client.post(CHAT, json=chat())
    assert stub.seen("duo-1")


def test_an_engine_can_be_moved_to_another_track_at_run_time(
    client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    rows = balancer.statistics()
    assert rows["pool-duo-canary", "duo-1"]["status"].startswith("MAINT")
    assert rows["pool-duo-baseline", "duo-1"]["status"].startswith("MAINT")
    balancer.runtime("set server pool-duo-canary/duo-1 state ready; set server pool-duo-stable/duo-1 state maint")
    try:
        for _ in range(6):
            client.post(CHAT, json=chat())
        assert not stub.seen("duo-1")
        assert balancer.statistics()["pool-duo-canary", "duo-1"]["status"].startswith("UP")
    finally:
        balancer.runtime("set server pool-duo-canary/duo-1 state maint; set server pool-duo-stable/duo-1 state ready")


def test_requests_of_one_beginning_meet_one_engine_up_to_its_bound(client: httpx.Client, stub: Stub) -> None:
    for beginning in ("first", "second", "third", "fourth", "fifth"):
        for _ in range(4):
            assert client.post(
                CHAT, json=chat("hashed", content=f"{beginning} {'x' * 600} {time.monotonic()}")
            ).is_success
    homes: dict[str, set[str]] = {}
    for seen in stub.seen("hashed-1", "hashed-2", "hashed-3"):
        homes.setdefault(seen.body["messages"][0]["content"].split()[0], set()).add(seen.engine)
    assert all(len(engines) == 1 for engines in homes.values()), homes
    assert len({engine for engines in homes.values() for engine in engines}) > 1, "different beginnings spread"


def test_the_engine_sees_its_own_key_and_never_the_clients(client: httpx.Client, stub: Stub) -> None:
    client.post(CHAT, json=chat())
    (seen,) = stub.seen()
    assert seen.headers["authorization"] == f"Bearer {ENGINE_KEY}"
    assert "sk-gateway" not in str(seen.headers)
