"""A balancer, the figures, the clock or the disk fails at every turn of a run that goes on: nothing rises meanwhile, and the end is
the same."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rackserve.canary.run.journal import Journal, name_of
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Phase, Record, State, Why
from rackserve.canary.run.world import NOTHING, Share

from .played import NEW, OLD, Disk, Played, Release, Watched, again, on_disk, plan, start, to_the_end, until

SHORT: dict[str, Any] = {"steps_percent": (5.0,), "observe_seconds": 5.0}


@dataclass(frozen=True)
class Turn:
    """Between two ticks of a run that goes on."""

    record: Record
    world: Played

    def controller(self, directory: Path, disk: Disk) -> Watched:
        journal = Journal(directory, disk.write)
        return Watched(
            self.world.plan, self.record, journal, self.world, lambda _: None, self.world.clock, self.world.sleep
        )


def turns(the_plan: Plan, directory: Path, release: Release | None = None) -> list[Turn]:
    world = Played(the_plan, release or Release())
    controller, found = start(world, directory), []
    while not controller.record.over:
        before = controller.record
        found.append(Turn(before, copy.deepcopy(world)))
        if not controller.tick():
            world.sleep(1)
    return found


def outlast(turn: Turn, controller: Watched, seconds: float) -> None:
    """So long with the fault. Nothing rises above what was in force when the controller first saw it."""
    world, ends, ceiling = turn.world, turn.world.now + seconds, 1000
    while world.now < ends:
        failing = bool(world.no_figures) or any(one.down for one in world.balancers.values())
        if not controller.tick():
            world.sleep(1)
        if failing:
            ceiling = min(ceiling, controller.record.share.canary)
            for name, one in world.balancers.items():
                assert one.down or one.live.canary <= ceiling, (name, controller.record)


def cut_off(world: Played, name: str, midway: bool) -> None:
    """`midway`: only once the next effect has reached the other balancer."""

    def hook(at: str) -> None:
        if at.endswith(("at lb1", "at lb2")) or not midway:
            world.balancers[name].down = True

    world.hook = hook
    if not midway:
        hook("")


@pytest.mark.parametrize(("name", "seconds"), [("lb1", 20), ("lb2", 20), ("lb2", 50)])
def test_a_balancer_that_cannot_be_reached_at_any_turn_only_delays(tmp_path: Path, name: str, seconds: float) -> None:
    """Also when its watchdog has taken the share back there meanwhile, after 30 s; but promotion goes back then."""
    for number, turn in enumerate(turns(plan(3, **SHORT), tmp_path)):
        world = turn.world
        cut_off(world, name, midway=number % 2 == 0)
        controller = turn.controller(tmp_path, Disk())
        outlast(turn, controller, seconds)
        world.hook = lambda _: None
        world.balancers[name].down = False
        record = to_the_end(controller, world)
        taken_back = "taken to 0 while engines were promoted" in record.reason and seconds > 30
        assert record.at is (State.ROLLED_BACK if taken_back else State.DONE), (number, turn.record, record)
        assert world.faults(NEW if record.at is State.DONE else OLD) == [], (number, turn.record)


def test_a_balancer_out_of_reach_does_not_keep_a_bad_canary_on_the_other(tmp_path: Path) -> None:
    """And its own watchdog ends it there."""
    found = turns(plan(3, **SHORT), tmp_path, Release(dies_at=330))
    for turn in [one for one in found if one.record.exposed and one.record.at is not State.ROLLING_BACK]:
        world = turn.world
        world.balancers["lb2"].down = True
        world.engines["e3"].release = None
        controller = turn.controller(tmp_path, Disk())
        controller.tick()
        controller.tick()
        assert world.share == 0
        to_the_end(controller, world, seconds=60)
        assert world.balancers["lb2"].live.canary == 0
        world.balancers["lb2"].down = False
        assert to_the_end(controller, world).at is State.ROLLED_BACK
        assert world.faults(OLD) == []


def test_figures_that_stop_hold_the_run_and_it_goes_on_when_they_come(tmp_path: Path) -> None:
    for turn in [one for one in turns(plan(3, **SHORT), tmp_path) if one.record.exposed]:
        world = turn.world
        world.no_figures = "Prometheus on m1: connection refused"
        controller = turn.controller(tmp_path, Disk())
        if turn.record.turn < len(world.plan.order) - 1:
            outlast(turn, controller, 30)
            hold = controller.record.hold
            assert hold is not None
            assert (hold.why, "connection refused" in hold.reason) == (Why.SOURCE, True)
        world.no_figures = ""
        assert to_the_end(controller, world).at is State.DONE
        assert world.faults(NEW) == []


def test_a_canary_that_dies_without_figures_is_taken_back(tmp_path: Path) -> None:
    turn = next(one for one in turns(plan(3, **SHORT), tmp_path) if one.record.phase is Phase.OBSERVE)
    turn.world.no_figures = "Prometheus on m1: connection refused"
    turn.world.engines["e3"].release = None
    assert to_the_end(turn.controller(tmp_path, Disk()), turn.world).at is State.ROLLED_BACK
    assert turn.world.faults(OLD) == []


def test_a_full_disk_stops_every_step_forward_and_none_back(tmp_path: Path) -> None:
    found = turns(plan(3, **SHORT), tmp_path)
    for number, turn in enumerate(found[::2]):
        world, disk = turn.world, Disk()
        disk.full = True
        said: list[str] = []
        controller = turn.controller(tmp_path, disk)
        controller._tell = said.append
        before = world.state()
        outlast(turn, controller, 15)
        if turn.record.intent is None:
            assert world.state() == before, (number, "an effect without its intent on disk")
        disk.full = False
        assert to_the_end(controller, world).at is State.DONE
        assert world.faults(NEW) == []
        assert not said or "cannot be written (No space left on device): nothing rises" in said[0]


def test_a_bad_canary_is_taken_off_though_nothing_can_be_written(tmp_path: Path) -> None:
    turn = next(one for one in turns(plan(3, **SHORT), tmp_path) if one.record.phase is Phase.OBSERVE)
    disk = Disk()
    disk.full = True
    turn.world.release = Release({"errors": 1.0})
    controller = turn.controller(tmp_path, disk)
    to_the_end(controller, turn.world, seconds=60)
    assert {one.live.canary for one in turn.world.balancers.values()} == {0}
    disk.full = False
    assert to_the_end(controller, turn.world).at is State.ROLLED_BACK
    assert turn.world.faults(OLD) == []


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, jump: float) -> None:
    straight = Played(plan(3))
    to_the_end(start(straight, tmp_path), straight)
    world = Played(plan(3))

    def set_clock(played: Played) -> None:
        if played.now > 1030:
            played.wall = 5000.0 + jump

    world.edit = set_clock
    assert to_the_end(start(world, tmp_path), world).at is State.DONE
    assert world.now == straight.now


@pytest.mark.parametrize("later", [-990.0, 100_000.0])
def test_after_a_boot_a_step_is_observed_anew(tmp_path: Path, later: float) -> None:
    """Times of another boot say nothing about this one, whichever is the larger."""
    world = Played(plan(3, observe_seconds=50.0))
    controller = start(world, tmp_path, on_disk)
    until(controller, world, lambda: controller.record.phase is Phase.OBSERVE)
    world.pass_(20)
    for one in world.balancers.values():
        one.beaten += later
    world.boot, world.now = "boot-2", world.now + later
    begun = world.now
    second = again(world, tmp_path, on_disk)
    until(second, world, lambda: world.share != 50)
    assert world.share == 100
    assert world.now - begun >= 50


def edited(world: Played, spoil: Callable[[Played], None], directory: Path, level: int = 1) -> tuple[Watched, Record]:
    controller = start(world, directory)
    until(controller, world, lambda: controller.record.level == level and controller.record.phase is Phase.OBSERVE)
    spoil(world)
    return controller, to_the_end(controller, world, seconds=60)


def test_a_share_that_somebody_raised_is_taken_back_and_the_run_holds(tmp_path: Path) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.balancers["lb2"].live = Share(canary=400, baseline=100)

    _, record = edited(world, spoil, tmp_path)
    assert {one.live.canary for one in world.balancers.values()} == {100}
    assert record.hold is not None
    assert record.hold.why is Why.EDITED
    assert "balancer lb2 gives the pool canary 40 %, baseline 10 %, its file says canary 10 %" in record.hold.reason


def test_a_share_that_somebody_took_to_nothing_stays_so_until_a_person_says_so(tmp_path: Path) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        for one in played.balancers.values():
            one.live = one.file = NOTHING

    _, record = edited(world, spoil, tmp_path)
    assert {one.live.canary for one in world.balancers.values()} == {0}
    assert (record.state, record.at) == (State.HOLD, State.SMOKE)


def test_an_engine_that_somebody_moved_holds_the_run(tmp_path: Path) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.balancers["lb1"].tracks["e1"] = "stable"

    _, record = edited(world, spoil, tmp_path)
    assert record.hold is not None
    assert "at balancer lb1 engine e1 is in stable, and this run put it in baseline" in record.hold.reason


def test_a_canary_that_was_started_anew_is_not_the_one_that_was_judged(tmp_path: Path) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.engines["e4"].starts += 1

    _, record = edited(world, spoil, tmp_path)
    assert record.at is State.ROLLED_BACK
    assert "engine e4 was started anew while it was judged" in record.reason


def test_counters_that_begin_anew_void_the_window(tmp_path: Path) -> None:
    """Requests from before do not make up the minimum."""
    world = Played(plan(4, minimum_requests=1000, observe_seconds=60.0))

    def spoil(played: Played) -> None:
        played.balancers["lb2"].epoch += 1

    controller = start(world, tmp_path)
    until(controller, world, lambda: controller.record.window.canary_requests >= 500)
    spoil(world)
    world.sleep(5)
    controller.tick()
    window = controller.record.window
    assert (window.canary_requests, dict(window.void)) == (0, {"the counters of lb2 began anew": 1})
    anew = world.now
    until(controller, world, lambda: world.share != 50)
    assert world.now - anew >= 100, "1000 requests at 10 in a second"


def test_a_run_that_lost_its_pool_touches_nothing_any_more(tmp_path: Path) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        for one in played.balancers.values():
            assert one.claim is not None
            one.claim = one.claim.model_copy(update={"run": "r9", "by": "eve@desk"})

    _, record = edited(world, spoil, tmp_path)
    assert record.at is State.HALTED
    assert "The run has lost its pool: run r9 by eve@desk has it." in record.reason


@pytest.mark.parametrize("level", [0, 1])
def test_a_share_that_a_person_took_back_for_good_takes_the_engines_back_too(tmp_path: Path, level: int) -> None:
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.stopped = "eve@desk at 10:00: users complain"
        for one in played.balancers.values():
            one.live = one.file = NOTHING

    controller, _ = edited(world, spoil, tmp_path, level)
    record = to_the_end(controller, world)
    assert (record.at, world.faults(OLD)) == (State.ROLLED_BACK, [])
    assert "Its share was taken back: eve@desk at 10:00: users complain." in record.reason


def test_without_its_control_a_canary_is_not_found_good(tmp_path: Path) -> None:
    """Its requests fail, so beside it everything is well; that counts for nothing, then and afterwards."""
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.engines["e1"].release = None

    controller, record = edited(world, spoil, tmp_path, level=0)
    assert record.hold is not None
    assert (record.hold.why, world.share) == (Why.CONTROL, 50)
    assert "no engine of baseline is up" in record.hold.reason
    world.engines["e1"].release = OLD
    assert to_the_end(controller, world).at is State.DONE
    assert world.faults(NEW) == []


def test_a_dead_engine_does_not_keep_the_others_from_coming_back(tmp_path: Path) -> None:
    """The baseline's engine dies, the canary fails: the share goes, the canary's engine comes back, a person is told of the other."""
    world = Played(plan(4))

    def spoil(played: Played) -> None:
        played.engines["e1"].release = None
        played.release = Release({"errors": 1.0})

    directory = tmp_path / "run"
    controller = start(world, directory, on_disk)
    until(controller, world, lambda: controller.record.phase is Phase.OBSERVE)
    spoil(world)
    record = to_the_end(controller, world, seconds=200)
    assert (record.at, world.share, world.engines["e4"].release) == (State.HALTED, 0, OLD)
    assert "undrain e1: its checks do not pass. scripts/canary resume tries again." in record.reason
    assert [name for name in world.plan.engines if name in world.balancers["lb1"].drained] == ["e1"]
    world.engines["e1"].release = OLD
    Journal(directory, on_disk).order("resume", "r1", "bob@desk", None, name_of("resume", 10**18, "0123abcd"))
    assert to_the_end(again(world, directory, on_disk), world).at is State.ROLLED_BACK
    assert world.faults(OLD) == []
