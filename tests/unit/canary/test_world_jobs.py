"""Work beside the loop: asked again, once begun, bounded."""

import threading
from collections.abc import Callable

from rackserve.canary.run.world import DONE, Ended, Outcome
from rackserve.canary.world.jobs import Jobs
from rackserve.fleet.errors import RefusedError, UnreachableError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(jobs: Jobs, key: str) -> None:
    """Its thread has ended; what it came to has not been asked for."""
    for thread in threading.enumerate():
        if thread.name == key:
            thread.join(10)
    assert not jobs.running(key)


def failing(error: Exception) -> Callable[[Callable[[str], None]], Outcome]:
    def work(say: Callable[[str], None]) -> Outcome:
        raise error

    return work


def test_it_is_doing_until_it_is_done_and_is_begun_once() -> None:
    jobs, go, begun = Jobs(), threading.Event(), []

    def work(say: Callable[[str], None]) -> Outcome:
        begun.append(1)
        say("half way")
        assert go.wait(10)
        return DONE

    assert jobs.ask("a", work, 60, "a").kind is Ended.DOING
    assert jobs.ask("a", work, 60, "a").kind is Ended.DOING
    go.set()
    settled(jobs, "a")
    assert jobs.ask("a", work, 60, "a") == DONE
    assert begun == [1]
    assert not jobs.known("a")


def test_what_takes_too_long_has_failed_and_says_what() -> None:
    clock, go = Clock(), threading.Event()
    jobs = Jobs(clock)

    def work(say: Callable[[str], None]) -> Outcome:
        assert go.wait(10)
        return DONE

    jobs.ask("b", work, 60, "b")
    clock.now = 61
    assert jobs.ask("b", work, 60, "laying it") == Outcome(Ended.FAILED, "laying it: not within 60 s")
    go.set()


def test_who_cannot_be_asked_is_asked_again_after_a_while_and_not_for_ever() -> None:
    clock = Clock()
    jobs = Jobs(clock)
    gone = failing(UnreachableError("gpu4", "talk", "no route"))
    jobs.ask("c", gone, 60, "c", patience_seconds=100)
    settled(jobs, "c")
    assert jobs.ask("c", gone, 60, "c", patience_seconds=100).kind is Ended.UNDONE
    assert jobs.known("c"), "not begun anew with every look"
    clock.now = 20
    assert jobs.ask("c", gone, 60, "c", patience_seconds=100).kind is Ended.UNDONE
    assert jobs.ask("c", gone, 60, "c", patience_seconds=100).kind is Ended.DOING
    settled(jobs, "c")
    clock.now = 101
    assert jobs.ask("c", gone, 60, "c", patience_seconds=100).kind is Ended.FAILED


def test_a_refusal_and_a_mistake_of_our_own_are_failures_with_their_words() -> None:
    for error in (RefusedError("gpu4", "talk", "no"), ValueError("odd")):
        jobs = Jobs()
        jobs.ask("d", failing(error), 60, "d")
        settled(jobs, "d")
        found = jobs.ask("d", failing(error), 60, "d")
        assert (found.kind, str(error) in found.reason) == (Ended.FAILED, True)
