"""Tokens: what an answer used is in its log line and in the budget, whatever way it took and however it ended."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, limit, plan
from gateway.stub import Stub

# The stub says 7 for every prompt.
PROMPT = 7


@pytest.fixture
def budget(balancer: Balancer, stub_address: str) -> Iterator[Callable[..., Balancer]]:
    """Starts the balancer with a budget and empty tables, in a minute that has time left; put back afterwards."""

    def with_budget(tokens: int, seconds: float = 20, **more: int) -> Balancer:
        service = limit(plan(stub_address, FIRST_PORT), "demo", None, tokens_per_minute=tokens, **more)
        balancer.start(candidate(service))
        eventually(balancer.all_up, "every engine in service")
        eventually(lambda: time.time() % 60 < 60 - seconds, "the next minute", 60)
        eventually(lambda: seen_in_the_log(balancer), "a line of the new process in the log")
        return balancer

    yield with_budget
    balancer.start(candidate(plan(stub_address, FIRST_PORT)))
    eventually(balancer.all_up, "every engine in service")


def seen_in_the_log(balancer: Balancer) -> bool:
    """A cheap refusal that is logged: the reader of the log is connected."""
    httpx.get(f"{balancer.url}/nothing")
    return any("unknown_path" in line for line in balancer.log_lines())


def charged(balancer: Balancer, name: str = "demo", counter: int = 1) -> int:
    """What the table says that this name has used, in all minutes."""
    total = 0
    for line in balancer.runtime("show table used-gw1").splitlines():
        if f"key={name}@" in line:
            total += int(line.split(f"gpc{counter}=")[1].split()[0])
    return total


def ask(client: httpx.Client, tokens: int, streamed: bool) -> int:
    body = chat("many", stream=streamed, tokens=tokens)
    return stream(client, body).status if streamed else client.post(CHAT, json=body).status_code


@pytest.mark.parametrize("streamed", [False, True])
def test_one_token_below_the_budget_passes_and_at_the_budget_it_is_429(
    budget: Callable[..., Balancer], client: httpx.Client, streamed: bool
) -> None:
    balancer = budget(100)
    assert ask(client, 99 - PROMPT, streamed) == 200
    eventually(lambda: charged(balancer) == 99, "99 tokens charged")
    # One token is left, so the next answer begins, and may be longer: the overshoot of one running request.
    assert ask(client, 13, streamed) == 200
    eventually(lambda: charged(balancer) == 119, "119 tokens charged")
    answer = client.post(CHAT, json=chat("many"))
    assert answer.status_code == 429
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
    assert answer.headers["x-ratelimit-limit-tokens"] == "100"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
    wait = int(answer.headers["retry-after"])
    # All of it came in this minute: 119 have to shrink below 100, which takes a sixth of the next minute.
    left = 60 - time.time() % 60
    assert left + 60 * (1 - 100 / 119) - 1 <= wait <= left + 60 * (1 - 99 / 119) + 2


def test_remaining_tokens_are_told(budget: Callable[..., Balancer], client: httpx.Client) -> None:
    balancer = budget(1000)
    first = client.post(CHAT, json=chat("many", tokens=93))
    assert first.headers["x-ratelimit-remaining-tokens"] == "1000"
    eventually(lambda: charged(balancer) == 100, "100 tokens charged")
    assert client.post(CHAT, json=chat("many")).headers["x-ratelimit-remaining-tokens"] == "900"


def test_the_overshoot_is_bounded_by_what_runs_at_once(budget: Callable[..., Balancer], client: httpx.Client) -> None:
    """Concurrency times the largest reply: nothing that began within the budget is cut, nothing begins beyond it."""
    balancer = budget(100, concurrent_requests=4)
    largest = 50 + PROMPT
    with ThreadPoolExecutor(8) as pool:
        bodies = [chat("many", stream=True, tokens=50, gap=0.005) for _ in range(24)]
        statuses = list(pool.map(lambda body: stream(client, body).status, bodies))
    used = statuses.count(200) * largest
    eventually(lambda: charged(balancer) == used, f"{used} tokens charged")
    assert 100 <= used < 100 + 4 * largest + largest


def test_many_streams_and_answers_are_charged_to_the_token(
    budget: Callable[..., Balancer], client: httpx.Client
) -> None:
    balancer = budget(1_000_000)
    lengths = [number % 17 + 1 for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda n: ask(client, n, n % 2 == 0), lengths)) == {200}
    expected = sum(lengths) + PROMPT * len(lengths)
    eventually(lambda: charged(balancer) == expected, f"{expected} tokens charged")
    assert charged(balancer, counter=2) == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_the_log_says_what_was_used(balancer: Balancer, client: httpx.Client, streamed: bool) -> None:
    request_id = f"metered-{streamed}-0001"
    body = chat("many", stream=streamed, tokens=5)
    stream(client, body, headers={"x-request-id": request_id}) if streamed else client.post(
        CHAT, json=body, headers={"x-request-id": request_id}
    )
    entry = balancer.log_entry(request_id)
    assert (entry["prompt_tokens"], entry["tokens"], entry["tokens_estimated"]) == (PROMPT, PROMPT + 5, False)


def test_the_usage_of_a_streamed_response_is_read(balancer: Balancer, client: httpx.Client) -> None:
    """The responses API has other names for it, at the end of an event that repeats the whole answer."""
    body = {"model": "many", "input": "hi", "stream": True, "stub": {"tokens": 9}}
    answer = client.post("/v1/responses", json=body, headers={"x-request-id": "responses-0001"})
    assert answer.status_code == 200
    entry = balancer.log_entry("responses-0001")
    assert (entry["prompt_tokens"], entry["tokens"], entry["tokens_estimated"]) == (PROMPT, PROMPT + 9, False)


def test_a_stream_the_client_leaves_is_charged_an_estimate(
    budget: Callable[..., Balancer], client: httpx.Client, stub: Stub
) -> None:
    balancer = budget(10_000)
    body = chat("many", stream=True, tokens=500, gap=0.05)
    with client.stream("POST", CHAT, json=body, headers={"x-request-id": "left-early-0001"}) as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith("data: "):
            pass
    entry = balancer.log_entry("left-early-0001")
    assert entry["tokens_estimated"] is True
    assert entry["tokens"] > 0
    eventually(lambda: charged(balancer) == entry["tokens"], "the estimate charged")
    assert charged(balancer, counter=2) == entry["tokens"]


def test_a_stream_that_outlives_a_reload_is_charged_to_the_new_process(
    budget: Callable[..., Balancer], client: httpx.Client, stub: Stub, stub_address: str
) -> None:
    balancer = budget(10_000)
    body = chat("many", stream=True, tokens=80, gap=0.05)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stream, client, body)
        eventually(lambda: any(engine.running for engine in stub.engines.values()), "the stream running")
        balancer.reload(candidate(limit(plan(stub_address, FIRST_PORT), "demo", None, tokens_per_minute=9_999)))
        assert charged(balancer) == 0
        assert running.result().complete
    eventually(lambda: charged(balancer) == 80 + PROMPT, "the stream charged in the new process")


def test_an_answer_without_usage_does_no_harm(balancer: Balancer, client: httpx.Client) -> None:
    answer = client.post(CHAT, json=chat("many", status=418))
    assert answer.status_code == 418
