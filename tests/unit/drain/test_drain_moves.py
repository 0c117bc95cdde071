"""The moves on a played rack: what is told to whom, and what is left when the command is killed at any point."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rackserve.fleet.drain import back, out
from rackserve.fleet.drain.decide import Step
from rackserve.fleet.drain.fleet import UnknownTarget, named
from rackserve.fleet.drain.out import Exit, Result
from rackserve.fleet.drain.records import Hold, InOtherHands
from unit.drain.world import DRAIN, Killed, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def drain(world: World, *names: str, steps: list[Step] | None = None, **more: Any) -> Result:
    wish = out.Wish(names or ("e1",), more.pop("deadline", 60.0), **more)
    seen, permission = out.plan(world.fleet, wish)
    refusal = out.refused(permission)
    told = steps if steps is not None else []
    return refusal or out.drain(world.fleet, wish, seen, told.append, *world.tick())


def undrain(world: World, *names: str, **more: Any) -> Result:
    wish = back.Wish(names or ("e1",), **more)
    seen, found, ended = back.plan(world.fleet, wish)
    return ended or back.undrain(world.fleet, wish, seen, found, lambda text: None, *world.tick())


def records(world: World, engine: str = "e1") -> list[dict[str, Any] | None]:
    files = [Path(world.fleet.paths[one.name].records) / f"{engine}.json" for one in world.balancers]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


def bits(world: World) -> list[int]:
    return [one.bits["e1"] for one in world.balancers]


def test_a_drain_waits_for_every_stream_and_leaves_a_record(world: World) -> None:
    world.balancers[0].streams["e1"], world.balancers[1].streams["e1"] = 3, 1
    steps: list[Step] = []
    result = drain(world, steps=steps, reason="new driver")
    assert (result.code, bits(world)) == (Exit.DONE, [DRAIN, DRAIN])
    assert [step.kind for step in steps if step.streams] == ["set", "wait", "wait", "wait"], steps
    assert [one and (one["step"], one["holder"], one["reason"]) for one in records(world)] == [
        ("drained", "", "new driver")
    ] * 2
    assert world.cut == 0


def test_old_processes_are_waited_for(world: World) -> None:
    world.balancers[1].old = {"77": {"e1": 2}}
    steps: list[Step] = []
    assert drain(world, steps=steps).code is Exit.DONE
    assert max(step.streams or 0 for step in steps) == 2


def test_what_does_not_end_is_held_and_later_cut_when_asked(world: World) -> None:
    world.stuck = True
    world.balancers[0].streams["e1"] = 2
    held = drain(world, deadline=3.0)
    assert (held.code, held.streams, world.cut) == (Exit.HELD, 2, 0)
    assert "2 requests still run" in held.said
    assert [one and one["step"] for one in records(world)] == ["held"] * 2
    cut = drain(world, deadline=3.0, cut=True)
    assert (cut.code, world.balancers[0].streams["e1"]) == (Exit.DONE, 0)


def test_a_balancer_that_does_not_follow_is_a_failure(world: World) -> None:
    world.balancers[0].deaf = True
    result = drain(world)
    assert result.code is Exit.FAILED
    assert "lb1 may still send requests" in result.said


def test_one_balancer_that_cannot_be_reached_changes_nothing_unless_forced(world: World) -> None:
    world.balancers[1].down = True
    assert (drain(world).code, bits(world)) == (Exit.UNKNOWN, [0, 0])
    forced = drain(world, force=True)
    assert (forced.code, bits(world), list(forced.undone)) == (Exit.UNKNOWN, [DRAIN, 0], ["lb2"])
    world.balancers[1].down = False
    assert (drain(world).code, bits(world)) == (Exit.DONE, [DRAIN, DRAIN])


def test_a_monitor_that_cannot_be_asked_is_no_yes(world: World) -> None:
    world.peak = None
    assert (drain(world).code, bits(world)) == (Exit.UNKNOWN, [0, 0])
    assert drain(world, force=True).code is Exit.DONE


def test_the_last_engine_is_refused(world: World) -> None:
    assert drain(world, "e1").code is Exit.DONE
    refused = drain(world, "e2")
    assert (refused.code, [one.bits["e2"] for one in world.balancers]) == (Exit.HELD, [0, 0])
    assert "scripts/maintenance on small" in refused.said


def test_two_at_once_the_second_is_told_who_and_waits_for_the_death_of_the_first(world: World) -> None:
    directories = {name: paths.records for name, paths in world.fleet.paths.items()}
    first = Hold(world.balancers, directories, "ann@desk")
    first.take(["e1"], "draining", 1.0)
    second = drain(world)
    assert (second.code, bits(world)) == (Exit.HELD, [0, 0])
    assert "ann@desk is at work on it (draining)" in second.said
    for one in world.balancers:
        file = Path(directories[one.name]) / "e1.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"beat": 1.0}))
    assert drain(world).code is Exit.DONE
    with pytest.raises(InOtherHands, match="somebody else has taken over"):
        first.keep(["e1"])
    assert [one and one["by"] for one in records(world)] == ["ann@desk"] * 2, "who began it is kept"


def test_the_hands_of_a_command_that_died_here_are_no_hindrance(world: World) -> None:
    directories = {name: paths.records for name, paths in world.fleet.paths.items()}
    child = subprocess.Popen(["true"])
    child.wait()
    first = Hold(world.balancers, directories)
    first.take(["e1"], "draining", 1.0)
    for one in world.balancers:
        file = Path(directories[one.name]) / "e1.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"holder": f"{first.by}#{child.pid}-00"}))
    assert drain(world).code is Exit.DONE


def test_a_hold_that_fails_half_way_leaves_nothing_behind(world: World) -> None:
    directories = {name: paths.records for name, paths in world.fleet.paths.items()}
    Hold(world.balancers[1:], directories, "ann@desk").take(["e1"], "draining", 1.0)
    with pytest.raises(InOtherHands):
        Hold(world.balancers, directories, "bob@desk").take(["e1", "e2"], "draining", 2.0)
    assert [one and one["by"] for one in records(world)] == [None, "ann@desk"]
    assert records(world, "e2") == [None, None]


def test_a_drain_killed_at_any_point_is_finished_by_the_next(tmp_path: Path) -> None:
    whole = World(tmp_path / "whole")
    whole.balancers[0].streams["e1"] = 2
    assert drain(whole).code is Exit.DONE
    for number in range(1, whole.calls):
        world = World(tmp_path / str(number))
        world.balancers[0].streams["e1"] = 2
        world.die_at = number
        with pytest.raises(Killed):
            drain(world)
        world.die_at = None
        for one in world.balancers:
            for file in Path(world.fleet.paths[one.name].records).glob("*.json"):
                file.write_text(json.dumps(json.loads(file.read_text()) | {"beat": 1.0}))
        assert (drain(world).code, bits(world), world.cut) == (Exit.DONE, [DRAIN, DRAIN], 0), f"killed at call {number}"
        assert [one and (one["step"], one["holder"]) for one in records(world)] == [("drained", "")] * 2


def test_what_is_drained_already_is_done(world: World) -> None:
    assert drain(world).code is Exit.DONE
    again = drain(world)
    assert (again.code, bits(world)) == (Exit.DONE, [DRAIN, DRAIN])


def test_a_dead_node_is_drained_without_its_word(world: World) -> None:
    world.dead = {"e1"}
    assert drain(world).code is Exit.DONE


def test_back_only_after_a_token_and_a_warm_up(world: World) -> None:
    drain(world)
    world.silent = {"e1": "HTTP 500: no"}
    held = undrain(world)
    assert (held.code, bits(world)) == (Exit.HELD, [DRAIN, DRAIN])
    assert "no token from e1: asked from lb1: HTTP 500: no" in held.said
    assert [one and one["step"] for one in records(world)] == ["drained"] * 2
    world.silent, world.talked = {}, []
    result = undrain(world)
    assert (result.code, bits(world), records(world)) == (Exit.DONE, [0, 0], [None, None])
    # One token for each balancer, then the warm-up; the longest prompt is what half of the model takes.
    assert [letters for _, letters in world.talked] == [16, 16, 16, 128, 512, 1024, 16]


def test_it_comes_back_through_maintenance_so_that_its_load_rises_slowly(world: World) -> None:
    drain(world)
    world.balancers[0].commands.clear()
    undrain(world)
    told = [one for one in world.balancers[0].commands if one.startswith("set server")]
    assert told == ["set server engines/e1 state maint", "set server engines/e1 state ready"]


def test_back_while_requests_still_run_there_leaves_them_alone(world: World) -> None:
    world.stuck = True
    world.balancers[0].streams["e1"] = 1
    drain(world, deadline=1.0)
    world.balancers[0].commands.clear()
    assert undrain(world).code is Exit.DONE
    assert not [one for one in world.balancers[0].commands if one.endswith("state maint")]


def test_an_engine_whose_checks_fail_after_its_return_is_told(world: World) -> None:
    drain(world)
    world.dead = {"e1"}
    result = undrain(world)
    assert result.code is Exit.FAILED
    assert "lb1 does not send requests to e1: its checks fail" in result.said


def test_what_is_not_drained_needs_no_return(world: World) -> None:
    assert "nothing to do" in undrain(world).said
    assert not world.talked


def test_a_return_killed_at_any_point_is_finished_by_the_next(tmp_path: Path) -> None:
    whole = World(tmp_path / "whole")
    drain(whole)
    before = whole.calls
    assert undrain(whole).code is Exit.DONE
    for number in range(before + 1, whole.calls):
        world = World(tmp_path / str(number))
        drain(world)
        world.die_at = number
        with pytest.raises(Killed):
            undrain(world)
        world.die_at = None
        for one in world.balancers:
            for file in Path(world.fleet.paths[one.name].records).glob("*.json"):
                file.write_text(json.dumps(json.loads(file.read_text()) | {"beat": 1.0}))
        assert (undrain(world).code, bits(world)) == (Exit.DONE, [0, 0]), f"killed at call {number}"
        assert records(world) == [None, None]


def test_a_word_names_a_node_or_an_engine(world: World) -> None:
    assert (named(world.fleet, "gpu1"), named(world.fleet, "e2")) == (("e1",), ("e2",))
    with pytest.raises(UnknownTarget, match=r"Nodes: gpu1, gpu2\. Engines: e1, e2\."):
        named(world.fleet, "gpu9")
