"""Tokens reach the client one by one, and what happens to a stream at the engine happens to it at the client."""

import itertools
import threading
from collections.abc import Callable

import httpx
import pytest

from gateway.asking import CHAT, CONTEXT, Stream, chat, error_of, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub


def test_each_token_arrives_when_the_engine_sends_it(client: httpx.Client) -> None:
    seen = stream(client, chat(stream=True, ttft=0.2, gap=0.1, tokens=8))
    assert seen.complete
    assert seen.tokens == [f"t{number} " for number in range(8)]
    times = [moment for moment, _ in seen.events[:8]]
    assert 0.2 <= times[0] < 0.35, times
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Merged tokens would show as one gap near 0 and the next near 0.2.
    assert all(0.05 < gap < 0.18 for gap in gaps), gaps


def test_a_stream_may_last_longer_than_the_allowed_silence(client: httpx.Client) -> None:
    seen = stream(client, chat(stream=True, gap=0.3, tokens=8))
    assert seen.complete, "2.4 s of tokens every 0.3 s with 1 s of silence allowed"


def test_an_answer_that_is_not_streamed_may_be_silent_until_it_is_complete(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=chat(ttft=2.0))
    assert answer.status_code == 200, "silence_seconds is 1, but this answer has generation_seconds"
    assert answer.json()["usage"]["total_tokens"] == 10


def test_silence_before_the_first_byte_is_504(client: httpx.Client, stub: Stub) -> None:
    answer = client.post(CHAT, json=chat(stream=True, ttft=4))
    assert answer.status_code == 504
    assert error_of(answer)["code"] == "engine_timeout"
    assert 0.9 < answer.elapsed.total_seconds() < 1.8
    eventually(lambda: stub.seen()[0].abandoned, "the engine is told to stop")


def test_silence_in_the_middle_cuts_the_stream(client: httpx.Client) -> None:
    seen = stream(client, chat(stream=True, tokens=6, silent_after=2))
    assert (seen.status, seen.tokens, seen.complete) == (200, ["t0 ", "t1 "], False)


def test_a_cut_at_the_engine_is_a_cut_at_the_client(client: httpx.Client, balancer: Balancer) -> None:
    seen = stream(client, chat(stream=True, tokens=6, cut_after=3))
    assert (seen.status, seen.tokens, seen.complete) == (200, ["t0 ", "t1 ", "t2 "], False)
    assert balancer.log_entry(seen.headers["x-request-id"])["ending"] == "SD"


@pytest.fixture
def many(balancer: Balancer) -> Callable[[int, float, int], list[Stream]]:
    def run(count: int, gap: float, tokens: int) -> list[Stream]:
        results: list[Stream] = []
        headers = {"authorization": f"Bearer {KEYS['demo']}"}

        def one() -> None:
            with httpx.Client(base_url=balancer.url, headers=headers, timeout=30, verify=CONTEXT) as client:
                results.append(stream(client, chat("many", stream=True, gap=gap, tokens=tokens)))

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=40)
        return results

    return run


def test_a_reload_loses_none_of_fifty_streams(
    balancer: Balancer, stub: Stub, stub_address: str, many: Callable[[int, float, int], list[Stream]]
) -> None:
    results: list[Stream] = []
    load = threading.Thread(target=lambda: results.extend(many(50, 0.1, 70)))
    load.start()
    try:
        eventually(
            lambda: sum(engine.running for engine in stub.engines.values()) == 50, "fifty streams at the engines"
        )
        changed = plan(stub_address, FIRST_PORT)
        changed["pools"]["duo"]["queue"]["max_requests"] += 1
        balancer.reload(candidate(changed))
        assert sum(engine.running for engine in stub.engines.values()) == 50, (
            "all still open while the new worker serves"
        )
    finally:
        load.join(timeout=60)
        balancer.reload(candidate(plan(stub_address, FIRST_PORT)))
    assert len(results) == 50
    broken = [seen for seen in results if not seen.complete or len(seen.tokens) != 70]
    assert not broken
