"""What scripts/rollback says after each balancer's answer, and the exit code that it comes to."""

from typing import Any

from rackserve.canary.moves.show import line, told
from rackserve.canary.moves.sight import Back

WELL: dict[str, Any] = {
    "live_before": "50/50",
    "live_after": None,
    "live_error": "",
    "file_before": "50/50",
    "file_error": "",
    "run": "run-1",
    "run_error": "",
    "running": 0,
    "waiting": 0,
    "old_running": 0,
    "old_error": "",
    "refused": "",
    "stable": (2, 3),
}


def back(**more: Any) -> Back:
    return Back(**WELL | more)


def test_done_everywhere_is_0_and_names_the_run_once() -> None:
    said = told("chat", {"lb1": back(), "lb2": back()}, {}, 0.2)
    assert said.code == 0
    assert said.lines == (
        "run run-1 gets no share any more",
        "chat: no new request goes to the canary at lb1, lb2 (0.20 s)",
    )
    assert line(back(), hard=False) == "canary 5 %, baseline 5 % -> 0"


def test_what_is_left_is_stated_apart() -> None:
    busy = back(running=3, waiting=2, old_running=1, file_before=None)
    assert line(busy, hard=False) == (
        "canary 5 %, baseline 5 % -> 0 (its file said 0); let end: 3 running there; queued there already, and served there: 2; "
        "in processes from before a reload: 1"
    )
    assert "not ended in time: 3 running there" in line(busy, hard=True)
    assert "is not known" in line(back(running=None), hard=False)


def test_nothing_to_do_is_0_and_says_so() -> None:
    nothing = back(live_before=None, file_before=None, run=None)
    said = told("chat", {"lb1": nothing}, {}, 0.2)
    assert (said.code, said.lines) == (0, ("chat: nothing to do: no share was given to a canary at lb1",))
    assert line(nothing, hard=False) == "0, as before"


def test_one_that_could_not_be_asked_is_3_one_that_did_not_do_it_is_1() -> None:
    dead = {"lb2": (3, "192.0.2.2: could not be reached")}
    said = told("chat", {"lb1": back()}, dead, 0.2)
    assert said.code == 3
    assert "lb2: NOT DONE: 192.0.2.2: could not be reached" in said.lines
    assert said.lines[-1].startswith("chat: lb2 may still send requests to the canary")
    half = back(file_error="no space left on device")
    said = told("chat", {"lb1": half}, dead, 0.2)
    assert (said.code, said.lines[-1].startswith("chat: lb1, lb2 may")) == (1, True)
    assert line(half, hard=False) == (
        "NOT DONE: its file keeps the share, and a reload would bring it back: no space left on device"
    )


def test_somebody_who_gives_it_again_is_no_success() -> None:
    said = told("chat", {"lb1": back(live_after="50/50")}, {}, 0.2)
    assert said.code == 1
    assert "says 50/50 again: who gives it?" in line(back(live_after="50/50"), hard=False)


def test_a_stable_that_cannot_take_it_is_told_and_refuses_when_it_has_nobody() -> None:
    assert "; stable has 1 of 8 engines in service" in line(back(stable=(1, 8)), hard=False)
    why = "stable has no engine in service, so all requests would be refused: nothing was changed"
    nobody = back(live_after="50/50", file_before=None, run=None, refused=why, stable=(0, 8))
    said = told("chat", {"lb1": nobody}, {"lb2": (3, "no route")}, 0.2)
    assert (said.code, "--force" in said.lines[-1], "lb2: NOT DONE: no route" in said.lines) == (4, True, True)
    assert line(nobody, hard=False) == f"NOT DONE: {why}"
