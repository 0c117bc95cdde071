"""Slots, the queue in front of them, its bound, its time limit and its order; and clients that leave."""

import threading
import time

import httpx

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, eventually
from gateway.crowd import Crowd
from gateway.plan import KEYS
from gateway.stub import Stub


def queued(balancer: Balancer, pool: str) -> int:
    return int(balancer.statistics()[f"pool-{pool}-stable", "BACKEND"]["qcur"])


def test_an_engine_never_runs_more_requests_than_it_has_slots(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    answers = [crowd.ask(chat("wide", ttft=0.05)) for _ in range(60)]
    assert [answer.result().status_code for answer in answers] == [200] * 60
    peaks = {name: stub.engines[name].peak for name in ("wide-1", "wide-2")}
    assert peaks == {"wide-1": 4, "wide-2": 4}, "full, never more"
    assert len(stub.seen("wide-1", "wide-2")) == 60


def test_the_least_loaded_engine_gets_the_next_request(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    long = crowd.ask(chat("wide", ttft=1.2))
    eventually(lambda: len(stub.seen()) == 1, "the long request at an engine")
    busy = stub.seen()[0].engine
    for _ in range(5):
        assert crowd.ask(chat("wide")).result().status_code == 200
    assert [seen.engine for seen in stub.seen()].count(busy) == 1
    assert long.result().status_code == 200


def test_a_beginning_that_everybody_sends_does_not_fill_one_engine(
    balancer: Balancer, stub: Stub, crowd: Crowd
) -> None:
    """The pool hashed: three engines of eight slots, none above 150 % of the mean."""
    answers = [crowd.ask(chat("hashed", content="the same beginning", ttft=0.8)) for _ in range(12)]
    assert [answer.result().status_code for answer in answers] == [200] * 12
    peaks = sorted(stub.engines[name].peak for name in ("hashed-1", "hashed-2", "hashed-3"))
    assert peaks[-1] <= 7, f"12 requests, mean 4, bound 6, and one on the way: {peaks}"
    assert peaks[-1] > peaks[0], f"but its own engine has the most: {peaks}"


def test_a_full_queue_is_503_at_once(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    running = crowd.ask(chat("narrow", ttft=1.0))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    waiting = [crowd.ask(chat("narrow")) for _ in range(2)]
    eventually(lambda: queued(balancer, "narrow") == 2, "both places of the queue taken")
    begin = time.monotonic()
    refused = crowd.ask(chat("narrow")).result()
    assert time.monotonic() - begin < 0.5
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    message = "The queue of the pool narrow is full: 2 requests wait, at most 2 may. Try again in 5 s."
    error = {"message": message, "type": "server_error", "param": None, "code": "queue_full"}
    assert refused.json() == {"error": error}
    assert balancer.log_entry(refused.headers["x-request-id"])["refused"] == "queue_full"
    assert "x-rackserve-refused" not in refused.headers
    assert [answer.result().status_code for answer in (running, *waiting)] == [200] * 3
    assert len(stub.seen("narrow-1")) == 3


def test_waiting_too_long_is_503(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    running = crowd.ask(chat("narrow", ttft=3))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    begin = time.monotonic()
    answer = crowd.ask(chat("narrow")).result()
    assert 1.4 < time.monotonic() - begin < 2.2, "queue.timeout_seconds is 1.5"
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    message = "The pool narrow did not take the request: it waited too long in the queue. Try again in 5 s."
    assert answer.json()["error"] == {
        "message": message,
        "type": "server_error",
        "param": None,
        "code": "queue_timeout",
    }
    entry = balancer.log_entry(answer.headers["x-request-id"])
    assert (entry["ending"], entry["queue_ms"] >= 1400) == ("sQ", True), entry
    assert running.result().status_code == 200
    assert len(stub.seen("narrow-1")) == 1


def test_a_pool_without_a_queue_refuses_when_its_slots_are_taken(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    running = crowd.ask(chat("unqueued", ttft=0.6))
    eventually(lambda: stub.seen("unqueued-1"), "one request on the only slot")
    refused = crowd.ask(chat("unqueued")).result()
    assert refused.status_code == 503
    assert error_of(refused)["code"] == "queue_full"
    assert running.result().status_code == 200
    assert crowd.ask(chat("unqueued")).result().status_code == 200


def test_interactive_overtakes_batch_in_the_queue(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    answers = [crowd.ask(chat("narrow", ttft=0.5, name="running"))]
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    answers.append(crowd.ask(chat("narrow", name="batch"), tenant="batch"))
    eventually(lambda: queued(balancer, "narrow") == 1, "batch waits")
    answers.append(crowd.ask(chat("narrow", name="interactive")))
    assert [answer.result().status_code for answer in answers] == [200] * 3
    assert [seen.body["stub"]["name"] for seen in stub.seen("narrow-1")] == ["running", "interactive", "batch"]


def test_a_client_that_leaves_gives_up_its_place_in_the_queue(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    running = crowd.ask(chat("narrow", ttft=1.2))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    impatient = crowd.ask(chat("narrow", name="gone"), timeout=0.3)
    eventually(lambda: queued(balancer, "narrow") == 1, "it waits")
    assert isinstance(impatient.exception(), httpx.TimeoutException)
    eventually(lambda: queued(balancer, "narrow") == 0, "its place is free again", seconds=1)
    assert running.result().status_code == 200
    assert len(stub.seen("narrow-1")) == 1, "the engine never saw the request of the client that left"


def test_a_client_that_leaves_frees_its_slot_at_the_engine(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    left = threading.Event()

    def leave_after_two_tokens() -> None:
        headers = {"authorization": f"Bearer {KEYS['demo']}"}
        body = chat("narrow", stream=True, gap=0.1, tokens=100)
        with httpx.stream("POST", f"{balancer.url}{CHAT}", json=body, headers=headers) as answer:
            for number, _ in enumerate(line for line in answer.iter_lines() if line):
                if number == 1:
                    break
        left.set()

    leave_after_two_tokens()
    assert left.is_set()
    eventually(lambda: stub.seen("narrow-1")[0].abandoned, "the engine's connection is closed", seconds=1)
    assert crowd.ask(chat("narrow")).result().status_code == 200
