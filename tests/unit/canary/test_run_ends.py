"""A good release is promoted, each bad one taken back, on a played pool; and nobody meets more of a bad one than is said."""

from pathlib import Path
from typing import Any

import pytest
from rackserve.canary.run.journal import Journal, name_of
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import State, Why

from .played import NEW, OLD, Played, Release, again, on_disk, plan, start, to_the_end, until


@pytest.mark.parametrize("engines", [2, 3, 4, 5])
def test_a_good_release_is_promoted_and_nobody_is_lost(tmp_path: Path, engines: int) -> None:
    world = Played(plan(engines))
    record = to_the_end(start(world, tmp_path), world)
    assert (record.at, record.over) == (State.DONE, True)
    assert world.faults(NEW) == []
    assert world.told("promoted") == ["Pool small runs small-2."]


def test_every_change_of_traffic_is_told_with_what_was_before(tmp_path: Path) -> None:
    world = Played(plan(4))
    to_the_end(start(world, tmp_path), world)
    traffic = [event for event in world.events if event.kind == "traffic"]
    assert [one.before for one in traffic[1:]] == [one.after for one in traffic[:-1]]
    assert (traffic[0].before, traffic[0].after, traffic[-1].after) == (
        "nothing",
        "canary 5 %, baseline 5 %",
        "nothing",
    )
    assert {(one.run, one.by) for one in traffic} == {("r1", "ann@desk")}


# What is wrong, and the highest share in thousandths that such a canary may reach.
BAD: dict[str, tuple[Release, int]] = {
    "slow first tokens": (Release({"slow_ttft": 0.3}), 50),
    "slow tokens": (Release({"slow_inter_token": 0.3}), 50),
    "errors 5 %": (Release({"errors": 0.05}), 50),
    "cuts streams": (Release({"cut_streams": 0.05}), 50),
    "empty answers": (Release({"empty_answers": 0.05}), 50),
    "every answer an error": (Release({"errors": 1.0}), 50),
    "dies at 10 %": (Release(dies_at=100), 100),
    "fails to start": (Release(broken=frozenset({"e4"})), 0),
    "wrong model": (Release(wrong={"check": "it serves tiny, not small"}), 0),
    "smoke fails": (Release(wrong={"smoke": "the stream ended without [DONE]"}), 0),
    "quality fails": (Release(wrong={"quality": "40 of 100 greedy answers agree"}), 0),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_release_is_taken_back(tmp_path: Path, kind: str) -> None:
    release, highest = BAD[kind]
    world = Played(plan(4, observe_seconds=60.0), release)
    record = to_the_end(start(world, tmp_path), world)
    assert (record.at, record.over) == (State.ROLLED_BACK, True), (record, world.events)
    assert world.faults(OLD) == []
    assert world.highest <= highest
    for reason in release.wrong.values():
        assert reason in record.reason


def test_a_dead_canary_is_off_the_traffic_at_the_next_look(tmp_path: Path) -> None:
    world = Played(plan(4), Release(dies_at=50))
    controller = start(world, tmp_path)
    until(controller, world, lambda: world.engines["e4"].release == NEW and world.share > 0)
    while world.engines["e4"].release is not None:
        world.pass_(1)
    died = world.now
    until(controller, world, lambda: world.share == 0)
    assert world.now == died, "the very next look"
    assert "The canary serves nobody: the checks of e4 fail at lb1, lb2." in controller.record.reason


def run(tmp_path: Path, release: Release, the_plan: Plan, **more: Any) -> Played:
    world = Played(the_plan, release, **more)
    to_the_end(start(world, tmp_path), world)
    return world


def test_of_two_engines_errors_are_judged_at_every_step_and_latency_only_at_load_parity(tmp_path: Path) -> None:
    two = plan(2, observe_seconds=60.0)
    assert two.baseline is None
    assert "errors are judged at every step, latency only at load parity" in two.notes[-1]
    slow = run(tmp_path / "slow", Release({"slow_ttft": 0.3}), two)
    assert (slow.highest, slow.faults(OLD)) == (500, [])
    failing = run(tmp_path / "failing", Release({"errors": 0.05}), two)
    assert (failing.highest, failing.faults(OLD)) == (50, [])


def test_without_traffic_it_holds_says_what_is_missing_and_offers_load(tmp_path: Path) -> None:
    world = Played(plan(4), requests=0)
    controller = start(world, tmp_path)
    record = to_the_end(controller, world, seconds=2000)
    assert (record.state, record.at, world.highest) == (State.HOLD, State.STEP, 50)
    assert record.hold is not None
    assert record.hold.why is Why.EVIDENCE
    assert record.hold.reason.startswith("Too little seen: 0 of 100 canary requests.")
    assert "resume starts the time anew" in record.hold.reason
    assert len(world.told("held")) == 1
    world.requests = 200
    assert to_the_end(controller, world).at is State.DONE


def test_a_canary_that_turns_bad_under_a_hold_is_taken_back(tmp_path: Path) -> None:
    """The gate's wait is not a blind spot."""
    world = Played(plan(4, gates=(10.0,)))
    controller = start(world, tmp_path)
    record = to_the_end(controller, world, seconds=500)
    assert record.hold is not None
    assert record.hold.why is Why.GATE
    world.release = Release({"errors": 0.2})
    record = to_the_end(controller, world)
    assert (record.at, world.highest, world.faults(OLD)) == (State.ROLLED_BACK, 50, [])


@pytest.mark.parametrize("engines", [2, 3, 5])
@pytest.mark.parametrize("turn", [0, 1, -1])
def test_an_engine_that_does_not_start_halts_promotion_and_gets_no_request(
    tmp_path: Path, engines: int, turn: int
) -> None:
    the_plan = plan(engines)
    broken = the_plan.order[min(turn, len(the_plan.order) - 1)]
    world = Played(the_plan, Release(broken=frozenset({broken})))
    controller = start(world, tmp_path)
    record = to_the_end(controller, world, seconds=600)
    assert record.at is State.HALTED
    assert f"start {broken} small-2: it ended with: out of memory" in record.reason
    assert (world.unserved, world.hurt, world.violations) == (0, 0, [])
    assert all(broken in one.drained for one in world.balancers.values())
    assert world.told("halted") == [record.reason]


def test_promotion_that_halted_goes_back_on_an_order_to_another_process(tmp_path: Path) -> None:
    world = Played(plan(4), Release(broken=frozenset({"e2"})))
    assert to_the_end(start(world, tmp_path, on_disk), world, seconds=600).at is State.HALTED
    name = name_of("abort", 10**18, "0123abcd")
    Journal(tmp_path, on_disk).order("abort", "r1", "bob@desk", None, name)
    record = to_the_end(again(world, tmp_path, on_disk), world)
    assert (record.at, record.over, world.faults(OLD)) == (State.ROLLED_BACK, True, [])
    assert Journal(tmp_path).answered(name) == "rolling back"


@pytest.mark.parametrize(("fewest", "share"), [(1, 330), (2, 480), (3, 480), (3, 660), (2, 740), (3, 990)])
def test_a_canary_that_turns_bad_while_it_is_promoted_never_leaves_users_without_an_engine(
    tmp_path: Path, fewest: int, share: int
) -> None:
    world = Played(plan(4, fewest))
    controller = start(world, tmp_path)
    until(controller, world, lambda: world.share >= share)
    world.release = Release({"errors": 0.5})
    record = to_the_end(controller, world)
    if record.at is State.DONE:
        assert share == 990, "with no engine of the old release left there is nothing to compare with"
        return
    assert (record.at, record.over) == (State.ROLLED_BACK, True), record
    assert world.faults(OLD) == []
    assert world.crowd <= 1 / fewest + 0.001, "an engine got more than what it carries at the peak"


def test_an_engine_that_falls_after_its_promotion_halts_the_run_and_the_others_serve_on(tmp_path: Path) -> None:
    world = Played(plan(4))
    controller = start(world, tmp_path)
    until(controller, world, lambda: controller.record.turn == 1)
    world.engines["e1"].release = None
    record = to_the_end(controller, world, seconds=300)
    assert (record.at, record.halted_from) == (State.HALTED, State.PROMOTING)
    assert record.reason.startswith("Engine e1 runs small-2 and its checks fail at lb1, lb2.")
    assert world.unserved == 0
    assert world.share > 0
