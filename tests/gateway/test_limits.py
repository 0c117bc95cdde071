"""Limits of a tenant and of a key: at the limit and one above it, over the edge of a minute, after a reload."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, limit, plan
from gateway.stub import Stub


@pytest.fixture
def limited(balancer: Balancer, stub_address: str) -> Iterator[Any]:
    """Starts the balancer with limits and empty tables; put back afterwards."""

    def with_limits(key: dict[str, Any] | None = None, **tenant: Any) -> Balancer:
        balancer.start(candidate(limit(plan(stub_address, FIRST_PORT), "demo", key, **tenant)))
        eventually(balancer.all_up, "every engine in service")
        return balancer

    yield with_limits
    balancer.start(candidate(plan(stub_address, FIRST_PORT)))
    eventually(balancer.all_up, "every engine in service")


def settled_minute(seconds: float = 25) -> None:
    """Waits for a moment with so many seconds left in the minute, so that no edge falls into the test."""
    eventually(lambda: time.time() % 60 < 60 - seconds, "the next minute", 60)


@pytest.mark.parametrize("level", ["key", "tenant"])
def test_as_many_requests_as_the_limit_pass_and_one_more_is_429(
    limited: Any, client: httpx.Client, stub: Stub, level: str
) -> None:
    limited({"requests_per_minute": 3}) if level == "key" else limited(requests_per_minute=3)
    settled_minute()
    for left in (2, 1, 0):
        answer = client.post(CHAT, json=chat())
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
    answer = client.post(CHAT, json=chat())
    assert answer.status_code == 429
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    wait = int(answer.headers["retry-after"])
    who = "key demo/demo-1" if level == "key" else "tenant demo"
    assert error["message"] == (
        f"Rate limit reached for requests per minute of the {who}: at most 3 are allowed. Try again in {wait} s."
    )
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert 60 <= int(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 121
    assert len(stub.seen()) == 3
    other = client.post(CHAT, json=chat(), headers={"authorization": f"Bearer {KEYS['batch']}"})
    assert other.status_code == 200
    assert "x-ratelimit-limit-requests" not in other.headers


def test_retry_after_is_kept_over_the_edge_of_a_minute(limited: Any, client: httpx.Client) -> None:
    """Refused one moment before, let through at the moment that Retry-After named; the sums slide in between."""
    limited(requests_per_minute=40)
    settled_minute(6)
    while (answer := client.post(CHAT, json=chat())).status_code == 200:
        pass
    # The whole budget was used in one minute: nothing is free before that minute has ended.
    wait = int(answer.headers["retry-after"])
    refused = time.monotonic()
    left = 60 - time.time() % 60
    assert left - 1 < wait <= left + 3
    eventually(lambda: client.post(CHAT, json=chat()).status_code == 200, "a request let through", wait + 3)
    assert left - 1 < time.monotonic() - refused <= wait + 1


def test_counts_survive_a_reload(limited: Any, client: httpx.Client, stub_address: str) -> None:
    balancer = limited(requests_per_minute=3)
    settled_minute()
    for _ in range(3):
        assert client.post(CHAT, json=chat()).status_code == 200
    service = limit(plan(stub_address, FIRST_PORT), "demo", requests_per_minute=4)
    balancer.reload(candidate(service))
    eventually(lambda: "demo@" in balancer.runtime("show table used-gw1"), "the counts in the new process")
    assert client.post(CHAT, json=chat()).status_code == 200
    assert client.post(CHAT, json=chat()).status_code == 429


def acquaint(client: httpx.Client) -> None:
    """The first request makes the key's entries. When several threads make one at once, HAProxy 3.0 keeps all of them."""
    assert stream(client, chat("many", stream=True, tokens=1)).complete


@pytest.mark.parametrize("level", ["key", "tenant"])
@pytest.mark.parametrize("name", ["concurrent_requests", "parallel_streams"])
def test_what_runs_at_once_is_bounded(
    limited: Any, client: httpx.Client, stub: Stub, balancer: Balancer, level: str, name: str
) -> None:
    limited({name: 3}) if level == "key" else limited(**{name: 3})
    acquaint(client)
    body = chat("many", stream=True, tokens=200, gap=0.05)
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(stream, client, body) for _ in range(3)]
        eventually(lambda: sum(engine.running for engine in stub.engines.values()) == 3, "three streams")
        eventually(lambda: "conn_cur=3" in balancer.runtime("show table running"), "three streams in the table")
        answer = client.post(CHAT, json=chat("many", stream=True))
        assert answer.status_code == 429, balancer.runtime("show table running")
        assert error_of(answer)["code"] == f"{level}_{name}"
        assert int(answer.headers["retry-after"]) > 0
        plain = client.post(CHAT, json=chat("many"))
        assert plain.status_code == (429 if name == "concurrent_requests" else 200)
        for one in running:
            assert one.result().complete
    assert client.post(CHAT, json=chat("many", stream=True)).status_code == 200


def test_after_a_reload_places_are_given_out_anew_and_no_more_than_those(
    limited: Any, client: httpx.Client, stub: Stub, stub_address: str
) -> None:
    balancer = limited(concurrent_requests=2)
    acquaint(client)
    body = chat("many", stream=True, tokens=160, gap=0.05)

    def running() -> int:
        return sum(engine.running for engine in stub.engines.values())

    with ThreadPoolExecutor(4) as pool:
        before = [pool.submit(stream, client, body) for _ in range(2)]
        eventually(lambda: running() == 2, "two streams")
        assert client.post(CHAT, json=chat("many")).status_code == 429
        service = limit(plan(stub_address, FIRST_PORT), "demo", concurrent_requests=2, requests_per_minute=1000)
        balancer.reload(candidate(service))
        # The client's open connections still lead to the old process.
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=client.timeout) as fresh:
            acquaint(fresh)
            after = [pool.submit(stream, fresh, body) for _ in range(2)]
            eventually(lambda: running() == 4, "two streams of each process")
            assert fresh.post(CHAT, json=chat("many")).status_code == 429
            assert all(one.result().complete for one in after)
        assert all(one.result().complete for one in before)


def test_a_crowd_never_gets_more_than_its_places(limited: Any, client: httpx.Client, stub: Stub) -> None:
    limited(concurrent_requests=4)
    acquaint(client)
    stub.reset()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post(CHAT, json=chat("many", gap=0.02)).status_code, range(64)))
    assert set(answers) == {200, 429}
    assert sum(stub.engines[name].peak for name in ("many-1", "many-2")) <= 8
    assert max(stub.engines[name].peak for name in ("many-1", "many-2")) <= 4


def test_the_official_client_raises_rate_limit_error(limited: Any, balancer: Balancer) -> None:
    limited(requests_per_minute=1)
    settled_minute()
    with openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["demo"], max_retries=0, timeout=15) as client:
        message: Any = [{"role": "user", "content": "hi"}]
        client.chat.completions.create(model="duo", messages=message)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="duo", messages=message)
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_the_official_client_waits_as_told_and_then_succeeds(
    limited: Any, balancer: Balancer, client: httpx.Client, stub: Stub
) -> None:
    """One retry after Retry-After, not a storm of them."""
    limited(concurrent_requests=1)
    with (
        ThreadPoolExecutor(1) as pool,
        openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["demo"], max_retries=2, timeout=15) as official,
    ):
        running = pool.submit(stream, client, chat("many", stream=True, tokens=30, gap=0.05))
        eventually(lambda: any(engine.running for engine in stub.engines.values()), "the place taken")
        before = len([line for line in balancer.log_lines() if '"status":429' in line])
        message: Any = [{"role": "user", "content": "hi"}]
        answer = official.chat.completions.create(model="many", messages=message)
        assert answer.choices[0].message.content
        assert running.result().complete
    refused = [line for line in balancer.log_lines() if '"status":429' in line]
    assert 1 <= len(refused) - before <= 2
