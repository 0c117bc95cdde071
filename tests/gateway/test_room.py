"""Lanes that share a pool: shares of slots and queue, time limits of their own, ageing, slots kept for a tenant."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from gateway.asking import chat, error_of
from gateway.balancer import Balancer, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, default_lanes, default_pools, plan
from gateway.stub import Seen, Stub

Configure = Callable[..., None]


@pytest.fixture
def configure(restored: Balancer, balancer: Balancer, stub_address: str) -> Configure:
    """The lane batch with these settings, the pool narrow with this queue."""

    def configured(
        queue: dict[str, Any] | None = None,
        reserved: dict[str, float] | None = None,
        slots: int = 1,
        **batch: Any,
    ) -> None:
        lanes, pools = default_lanes(), default_pools()
        lanes["batch"] |= batch
        pools["narrow"]["slots_per_balancer"] = slots
        pools["narrow"]["queue"] |= queue or {}
        balancer.reload(candidate(plan(stub_address, FIRST_PORT, pools, lanes, reserved)))
        eventually(balancer.all_up, "every engine in service")

    return configured


def most_at_once(requests: list[Seen]) -> int:
    moments = [(seen.started, 1) for seen in requests] + [(seen.ended or time.monotonic(), -1) for seen in requests]
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    return most


def named(stub: Stub, name: str) -> list[Seen]:
    return [seen for seen in stub.seen() if seen.body["stub"].get("name") == name]


def ask_many(crowd: Crowd, count: int, pool: str, tenant: str, ttft: float) -> list[httpx.Response]:
    answers = [crowd.ask(chat(pool, ttft=ttft, name=tenant), tenant=tenant) for _ in range(count)]
    return [answer.result() for answer in answers]


def hours_around_now(*, include: bool) -> dict[str, Any]:
    hour = datetime.now(UTC).hour
    first, last = (hour - 1, hour + 2) if include else (hour + 3, hour + 6)
    return {"from_hour": first % 24, "to_hour": last % 24 or 24, "slots_percent": 25}


@pytest.mark.parametrize(
    ("batch", "allowed"),
    [
        ({"slots_percent": 50}, 4),
        ({"slots_percent": 1}, 1),
        ({"slots_percent_by_hour": [hours_around_now(include=True)]}, 2),
        ({"slots_percent_by_hour": [hours_around_now(include=False)], "queue_percent": 99}, 8),
    ],
)
def test_a_lane_holds_no_more_than_its_share_of_the_slots(
    configure: Configure, stub: Stub, crowd: Crowd, batch: dict[str, Any], allowed: int
) -> None:
    """The pool wide has eight slots."""
    configure(**batch)
    answers = ask_many(crowd, 12, "wide", "batch", 0.3)
    assert [answer.status_code for answer in answers] == [200] * 12
    assert most_at_once(named(stub, "batch")) == allowed


def test_interactive_finds_free_slots_while_batch_waits_at_its_share(
    configure: Configure, stub: Stub, crowd: Crowd
) -> None:
    configure(slots_percent=50)
    slow = [crowd.ask(chat("wide", ttft=1.5, name="batch"), tenant="batch") for _ in range(8)]
    eventually(lambda: len(named(stub, "batch")) == 4, "batch at its share")
    quick = ask_many(crowd, 4, "wide", "demo", 0.05)
    assert [answer.status_code for answer in quick] == [200] * 4
    assert len(named(stub, "batch")) == 4, "none of the waiting ones has started meanwhile"
    assert [answer.result().status_code for answer in slow] == [200] * 8


def test_each_lane_waits_as_long_as_it_may(configure: Configure, stub: Stub, crowd: Crowd) -> None:
    configure(queue={"max_requests": 4, "timeout_seconds": 6}, queue_timeout_seconds=0.7)
    running = crowd.ask(chat("narrow", ttft=2.5))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    interactive = crowd.ask(chat("narrow"))
    batch = crowd.ask(chat("narrow"), tenant="batch").result()
    assert (batch.status_code, batch.headers["retry-after"]) == (503, "5")
    message = "The pool narrow did not take the request: it waited too long in the lane batch. Try again in 5 s."
    assert (error_of(batch)["code"], error_of(batch)["message"]) == ("queue_timeout", message)
    assert 0.6 < batch.elapsed.total_seconds() < 2.5
    assert not interactive.done(), "the other lane still waits"
    assert [running.result().status_code, interactive.result().status_code] == [200, 200]


def test_a_lane_holds_no_more_than_its_share_of_the_queue(configure: Configure, stub: Stub, crowd: Crowd) -> None:
    configure(queue={"max_requests": 2, "timeout_seconds": 8}, queue_percent=50)
    running = crowd.ask(chat("narrow", ttft=1.5))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    answers = [crowd.ask(chat("narrow"), tenant="batch") for _ in range(2)]
    eventually(lambda: any(answer.done() for answer in answers), "one of two is refused")
    refused = next(answer.result() for answer in answers if answer.done())
    assert (refused.status_code, error_of(refused)["code"]) == (503, "queue_full")
    assert "lane batch" in error_of(refused)["message"]
    interactive = crowd.ask(chat("narrow"))
    codes = sorted(answer.result().status_code for answer in (running, interactive, *answers))
    assert codes == [200, 200, 200, 503]


def test_those_who_wait_in_front_count_for_the_bound_of_the_pool(
    configure: Configure, stub: Stub, crowd: Crowd
) -> None:
    configure(queue={"max_requests": 2, "timeout_seconds": 8}, slots_percent=50)
    running = crowd.ask(chat("narrow", ttft=1.5))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    waiting = [crowd.ask(chat("narrow"), tenant="batch") for _ in range(3)]
    eventually(lambda: sum(answer.done() for answer in waiting) == 1, "the third finds no place")
    refused = crowd.ask(chat("narrow")).result()
    assert refused.status_code == 503
    assert "2 requests wait, at most 2 may" in error_of(refused)["message"]
    assert running.result().status_code == 200
    assert sorted(answer.result().status_code for answer in waiting) == [200, 200, 503]


def test_a_room_full_of_batch_does_not_keep_interactive_from_a_free_slot(
    configure: Configure, balancer: Balancer, stub: Stub, crowd: Crowd
) -> None:
    """The pool narrow with two slots, of which batch may hold one, and two places."""
    configure(queue={"max_requests": 2, "timeout_seconds": 8}, slots=2, slots_percent=50)
    running = [crowd.ask(chat("narrow", ttft=1.5, name="batch"), tenant="batch") for _ in range(4)]
    eventually(lambda: sum(answer.done() for answer in running) == 1, "one runs, two wait, one is refused")
    assert crowd.ask(chat("narrow", name="quick")).result().status_code == 200
    assert len(named(stub, "batch")) == 1
    assert sorted(answer.result().status_code for answer in running) == [200, 200, 200, 503]


@pytest.mark.parametrize("share", [100, 50], ids=["in the queue", "in the room"])
def test_batch_is_overtaken_until_it_has_aged_and_not_longer(
    configure: Configure, stub: Stub, crowd: Crowd, share: int
) -> None:
    """Interactive requests come faster than one slot serves them, so that without ageing batch would never run."""
    ageing = 1.0
    configure(queue={"max_requests": 100, "timeout_seconds": 12}, ageing_seconds=ageing, slots_percent=share)
    sent: dict[str, float] = {}
    answers = []

    def ask(name: str, tenant: str) -> None:
        sent[name] = time.monotonic()
        answers.append(crowd.ask(chat("narrow", ttft=0.2, name=name), tenant=tenant))

    ask("first", "demo")
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    ask("before", "demo")
    ask("batch", "batch")
    pause = threading.Event()
    for number in range(30):
        ask(f"after-{number}", "demo")
        pause.wait(0.1)
    assert {answer.result().status_code for answer in answers} == {200}
    order = [seen.body["stub"]["name"] for seen in stub.seen("narrow-1")]
    overtook = [name for name in order[: order.index("batch")] if name.startswith("after")]
    assert overtook, "interactive goes first"
    latest = max(sent[name] for name in overtook) - sent["batch"]
    assert latest < ageing + 0.6, "but not those that come when batch has aged"


def test_slots_kept_for_a_tenant_are_taken_by_no_other(configure: Configure, stub: Stub, crowd: Crowd) -> None:
    """The pool duo has sixteen slots."""
    configure(reserved={"narrow": 50})
    others = [crowd.ask(chat("duo", ttft=3, name="demo")) for _ in range(12)]
    eventually(lambda: len(named(stub, "demo")) == 8, "the others have what is left to them")
    own = ask_many(crowd, 8, "duo", "narrow", 0.05)
    assert [answer.status_code for answer in own] == [200] * 8
    assert {answer.result().status_code for answer in others} == {200}
    assert most_at_once(named(stub, "demo")) == 8
    first_end = eventually(lambda: min(seen.ended or 0 for seen in named(stub, "demo")), "every answer ended")
    assert max(seen.started for seen in named(stub, "narrow")) < first_end, "nobody waited for a slot that was kept"


def test_who_leaves_gives_up_the_place_in_the_room(configure: Configure, stub: Stub, crowd: Crowd) -> None:
    configure(queue={"max_requests": 2, "timeout_seconds": 8}, queue_percent=50)
    running = crowd.ask(chat("narrow", ttft=2.5))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    impatient = crowd.ask(chat("narrow", name="gone"), tenant="batch", timeout=0.3)
    assert isinstance(impatient.exception(), httpx.TimeoutException)

    def another_waits() -> bool:
        answer = crowd.ask(chat("narrow", name="another"), tenant="batch")
        try:
            return answer.result(timeout=0.4).status_code == 200
        except TimeoutError:
            return True

    eventually(another_waits, "the place is free again")
    assert running.result().status_code == 200
    eventually(lambda: named(stub, "another"), "the next one runs")
    assert all(seen.abandoned for seen in named(stub, "gone")), "an engine that gets it all the same is told at once"
