"""What another process sees of a run, and how an order gets to it and its answer back."""

import threading
from pathlib import Path

import pytest
from rackserve.canary.run.command import UnknownRun, find, give, history, lines
from rackserve.canary.run.lock import alone
from rackserve.canary.run.record import Phase, State

from .played import Played, Watched, on_disk, plan, start, to_the_end, until


def observing(root: Path) -> tuple[Played, Watched]:
    world = Played(plan(4))
    controller = start(world, root / "small" / "r1", on_disk)
    until(controller, world, lambda: controller.record.level == 1 and controller.record.phase is Phase.OBSERVE)
    return world, controller


def test_an_order_is_answered_by_the_process_that_drives_the_run(tmp_path: Path) -> None:
    _, controller = observing(tmp_path)
    told: list[tuple[int, str]] = []
    with alone(tmp_path, "small", "ann@desk"):
        asking = threading.Thread(target=lambda: told.append(give(tmp_path, "r1", "pause", "bob@desk", seconds=60)))
        asking.start()
        while asking.is_alive():
            controller.tick()
            asking.join(0.01)
    assert told == [(0, "paused; the canary is judged on")]
    assert controller.record.state is State.HOLD


def test_an_order_that_is_refused_says_so_by_its_code(tmp_path: Path) -> None:
    _, controller = observing(tmp_path)

    def meanwhile(seconds: float) -> None:
        controller.tick()

    with alone(tmp_path, "small", "ann@desk"):
        said = give(tmp_path, "r1", "resume", "bob@desk", seconds=60, sleep=meanwhile)
    assert said == (4, "refused: nothing is held")


def test_without_an_answer_it_is_not_known(tmp_path: Path) -> None:
    observing(tmp_path)
    times = iter(range(100))
    with alone(tmp_path, "small", "ann@desk"):
        code, said = give(
            tmp_path, "r1", "abort", "bob@desk", seconds=5, clock=lambda: float(next(times)), sleep=lambda _: None
        )
    assert (code, said) == (3, "run r1 has not answered within 5 s; the order stands and will be read")


def test_where_nobody_drives_the_run_an_order_is_not_left_lying(tmp_path: Path) -> None:
    observing(tmp_path)
    code, said = give(tmp_path, "r1", "abort", "bob@desk")
    assert code == 4
    assert "scripts/rollback small takes its share back at once" in said
    assert list((tmp_path / "small" / "r1" / "orders").iterdir()) == []


def test_an_unknown_run_names_those_there_are(tmp_path: Path) -> None:
    observing(tmp_path)
    with pytest.raises(UnknownRun, match=r"no run 'r7' is kept in .*\. The newest: r1"):
        find(tmp_path, "r7")
    with pytest.raises(UnknownRun, match="The newest: none"):
        find(tmp_path / "empty", "r7")


def test_how_a_run_stands_is_told(tmp_path: Path) -> None:
    world, controller = observing(tmp_path)
    assert lines(find(tmp_path, "r1"), alive=True) == (
        "run r1: small-2 on pool small, by ann@desk: step at 10 % (observe)",
        "  users on: canary 10 %, baseline 10 %; the canary's engine: e4; the control: baseline",
    )
    assert (
        lines(find(tmp_path, "r1"), alive=False)[-1] == "  nobody drives it on this machine: scripts/canary resume r1"
    )
    to_the_end(controller, world)
    assert lines(find(tmp_path, "r1"), alive=False) == (
        "run r1: small-2 on pool small, by ann@desk: done", "  Pool small runs small-2.",
    )  # fmt: skip


def test_a_run_whose_journal_is_damaged_stands_in_the_history(tmp_path: Path) -> None:
    observing(tmp_path)
    (tmp_path / "small" / "r1" / "plan.json").write_text("{}")
    (row,) = history(tmp_path)
    assert row.plan is None
    assert "plan.json cannot be read" in lines(row, alive=False)[0]
