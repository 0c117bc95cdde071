"""One run for a pool; orders arrive as files, name run and step, and are answered once."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rackserve.canary.run.journal import Journal, JournalError, name_of
from rackserve.canary.run.lock import Taken, alone, free, living, standing
from rackserve.canary.run.preflight import objections
from rackserve.canary.run.record import State, Why
from rackserve.canary.run.world import NOTHING, Claim, Share

from .played import NEW, OLD, Played, Watched, again, on_disk, plan, start, to_the_end, until


class Orders:
    """What another process writes, and the answers it reads."""

    def __init__(self, directory: Path) -> None:
        self.journal, self.number = Journal(directory, on_disk), 0

    def give(self, kind: str, step: float | None = None, run: str = "r1") -> str:
        self.number += 1
        name = name_of(kind, 10**18 + self.number, "0123abcd")  # type: ignore[arg-type]
        self.journal.order(kind, run, "bob@desk", step, name)  # type: ignore[arg-type]
        return name

    def answer(self, controller: Watched, kind: str, step: float | None = None, run: str = "r1") -> str:
        name = self.give(kind, step, run)
        controller.tick()
        said = self.journal.answered(name)
        assert said is not None
        return said


def waiting(world: Played, directory: Path) -> tuple[Watched, Orders]:
    """At the gate before 10 %."""
    controller = start(world, directory, on_disk)
    assert to_the_end(controller, world, seconds=300).hold is not None
    return controller, Orders(directory)


def test_a_gate_opens_by_its_own_step_and_run_only(tmp_path: Path) -> None:
    world = Played(plan(4, gates=(10.0,)))
    controller, orders = waiting(world, tmp_path)
    hold = controller.record.hold
    assert hold is not None
    assert hold.reason == "10 % needs an approval: scripts/canary approve r1 --step 10"
    assert world.highest == 50
    assert orders.answer(controller, "approve", 5.0) == ("refused: it waits for an approval of 10 %, and 5 % was named")
    assert orders.answer(controller, "approve", 10.0, run="r0") == "refused: this is run r1, not r0"
    assert orders.answer(controller, "resume").startswith("refused: a gate opens by approve")
    assert world.highest == 50
    assert orders.answer(controller, "approve", 10.0) == "10 % approved"
    assert to_the_end(controller, world).at is State.DONE
    assert world.told("approved") == ["10 % approved by bob@desk"]


def test_an_approval_before_its_gate_opens_nothing(tmp_path: Path) -> None:
    world = Played(plan(4, gates=(10.0,)))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    assert orders.answer(controller, "approve", 10.0) == "refused: the run waits for no approval"
    record = to_the_end(controller, world, seconds=300)
    assert record.hold is not None
    assert record.hold.why is Why.GATE


def test_a_pause_keeps_the_share_and_resume_goes_on(tmp_path: Path) -> None:
    world = Played(plan(4))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    until(controller, world, lambda: world.highest >= 50)
    assert orders.answer(controller, "pause") == "paused; the canary is judged on"
    record = to_the_end(controller, world, seconds=1000)
    assert (record.state, world.highest) == (State.HOLD, 50)
    assert orders.answer(controller, "resume") == "goes on"
    assert to_the_end(controller, world).at is State.DONE


@pytest.mark.parametrize("share", [0, 50, 250, 500, 750])
def test_an_abort_goes_back_from_anywhere(tmp_path: Path, share: int) -> None:
    world = Played(plan(4))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    until(controller, world, lambda: world.highest >= share and controller.record.at is not State.PREFLIGHT)
    assert orders.answer(controller, "abort") == "rolling back"
    record = to_the_end(controller, world)
    assert (record.at, record.over, world.faults(OLD)) == (State.ROLLED_BACK, True, [])
    assert "Aborted by bob@desk." in record.reason


def test_an_abort_before_the_claim_touches_nothing(tmp_path: Path) -> None:
    world = Played(plan(4))
    other = Claim(run="r0", pool="small", release="small-9", by="eve@desk", since=7)
    for one in world.balancers.values():
        one.claim, one.live, one.file = other, Share(canary=50), Share(canary=50)
    before = world.state()
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    assert orders.answer(controller, "abort") == "aborted; nothing was changed"
    to_the_end(controller, world)
    assert world.state() == before


def test_when_every_engine_runs_it_an_abort_is_refused_and_says_what_goes_back(tmp_path: Path) -> None:
    world = Played(plan(3))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    until(controller, world, lambda: all(one.release == NEW for one in world.engines.values()))
    until(controller, world, lambda: controller.record.turn == 2)
    assert orders.answer(controller, "abort") == (
        "refused: every engine runs small-2 by now: scripts/rollback --to small-1 goes back"
    )
    assert to_the_end(controller, world).at is State.DONE
    assert orders.give("abort")
    assert controller.tick() in (True, False)
    assert list(controller.record.answers.values())[-1] == "refused: the run is over: done"


def test_a_second_run_is_refused_with_who_what_since_and_id(tmp_path: Path) -> None:
    world = Played(plan(4))
    other = Claim(run="r0", pool="small", release="small-9", by="eve@desk", since=7)
    for one in world.balancers.values():
        one.claim, one.live, one.file = other, Share(canary=50), Share(canary=50)
    before = world.state()
    record = to_the_end(start(world, tmp_path), world)
    assert (record.at, record.over, world.state()) == (State.ROLLED_BACK, True, before)
    assert record.reason == "small is taken by eve@desk for small-9, since 7, run r0"


def test_an_unfinished_run_on_this_machine_refuses_another_until_it_is_over(tmp_path: Path) -> None:
    world = Played(plan(4))
    directory = tmp_path / "small" / "r1"
    controller = start(world, directory, on_disk)
    with pytest.raises(Taken) as refused:
        free(tmp_path, "small", lambda at: f"{at:g} s")
    assert str(refused.value) == (
        "pool small has a run already: r1, small-2 by ann@desk, since 1 s, now preflight. Wait for it, or scripts/canary "
        "resume|abort r1"
    )
    assert refused.value.exit_code == 4
    to_the_end(controller, world)
    free(tmp_path, "small", str)
    free(tmp_path, "other", str)


def test_a_journal_that_cannot_be_read_refuses_another_run_too(tmp_path: Path) -> None:
    start(Played(plan(4)), tmp_path / "small" / "r1", on_disk)
    (tmp_path / "small" / "r1" / "plan.json").write_text("{}")
    with pytest.raises(JournalError):
        standing(tmp_path, "small")


_HOLDER = """
import sys
from pathlib import Path
from rackserve.canary.run.lock import alone
with alone(Path(sys.argv[1]), "small", "ann@desk, run r1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_process_drives_a_pool_and_a_kill_lets_go(tmp_path: Path) -> None:
    scripts = Path(__file__).resolve().parents[3] / "scripts"
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(scripts)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert living(tmp_path, "small")
        said = f"pool small is driven already on this machine: ann@desk, run r1, process {holder.pid}"
        with pytest.raises(Taken, match=said), alone(tmp_path, "small", "bob@desk"):
            pass
        holder.kill()
        holder.wait()
    assert not living(tmp_path, "small")
    with alone(tmp_path, "small", "bob@desk"):
        assert living(tmp_path, "small")


def test_an_order_that_is_torn_is_left_alone(tmp_path: Path) -> None:
    world = Played(plan(4))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    name = orders.give("abort")
    (tmp_path / "orders" / name).write_text("half of")
    assert to_the_end(controller, world).at is State.DONE


def test_an_order_is_done_once_though_the_run_is_taken_up_again(tmp_path: Path) -> None:
    world = Played(plan(4))
    controller, orders = start(world, tmp_path, on_disk), Orders(tmp_path)
    until(controller, world, lambda: world.highest >= 50)
    orders.answer(controller, "pause")
    orders.answer(controller, "resume")
    assert to_the_end(again(world, tmp_path, on_disk), world).at is State.DONE


# Preflight


def test_a_pool_that_is_as_it_should_be_has_nothing_against_it() -> None:
    world = Played(plan(4))
    found = objections(world.plan, world.observe())
    assert (found.exit_code, found.said) == (0, "")


def against(world: Played) -> tuple[int, str]:
    found = objections(world.plan, world.observe())
    return found.exit_code, found.said


def test_what_stands_against_a_run_is_named(tmp_path: Path) -> None:
    world = Played(plan(4))
    world.balancers["lb1"].live = Share(canary=50)
    assert against(world) == (
        4,
        "balancer lb1 gives the pool canary 5 %, baseline 0 % already, of no run that is known: scripts/rollback small takes it "
        "back",
    )
    world = Played(plan(4))
    world.balancers["lb2"].drained.add("e2")
    assert against(world) == (4, "engine e2 is drained at balancer lb2: scripts/undrain e2")
    world = Played(plan(4))
    world.balancers["lb2"].tracks["e2"] = "canary"
    assert against(world) == (4, "engine e2 is in canary at balancer lb2, not in stable")
    world = Played(plan(4))
    world.engines["e3"].release = "small-0"
    assert against(world)[1] == (
        "engine e3 runs small-0, the pool's release is small-1: run playbooks/release.yml first"
    )
    world = Played(plan(4))
    world.balancers["lb2"].down = True
    assert against(world) == (3, "balancer lb2 could not be asked: no route to host")


def test_a_run_against_which_something_stands_changes_nothing(tmp_path: Path) -> None:
    world = Played(plan(4))
    world.balancers["lb2"].drained.add("e2")
    before = world.state()
    record = to_the_end(start(world, tmp_path), world)
    assert (record.at, record.over, world.state()) == (State.ROLLED_BACK, True, before)
    assert record.reason == "Nothing was changed: engine e2 is drained at balancer lb2: scripts/undrain e2"


def test_a_hand_made_share_is_found_before_the_first_change(tmp_path: Path) -> None:
    world = Played(plan(4))
    world.balancers["lb1"].file = Share(canary=10)
    to_the_end(start(world, tmp_path), world)
    assert (world.balancers["lb1"].file, world.balancers["lb2"].file) == (Share(canary=10), NOTHING)
    assert dataclasses.replace(world.balancers["lb1"]).claim is None
