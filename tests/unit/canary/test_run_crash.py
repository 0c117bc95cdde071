"""Killed before and after every write of the journal and every effect, between two balancers and between a file and its process:
whoever takes the run up brings it to the same end, and nothing rises before it was judged anew."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rackserve.canary.run.journal import Journal, JournalError, name_of, write_whole
from rackserve.canary.run.record import Phase, State, Why

from .played import NEW, OLD, Disk, Played, Release, again, on_disk, plan, start, to_the_end, until


@dataclass(frozen=True)
class Point:
    """A moment at which the process may be killed, and what it leaves."""

    name: str
    world: Played
    disk: Disk


def points(
    world: Played, directory: Path, spoil: Callable[[Played], None] = lambda _: None, seconds: float = 5000
) -> list[Point]:
    """Every one of a whole run at which something is different from the one before. `spoil` may change the release on the way."""
    disk, found = Disk(), []
    last: list[object] = [None]

    def remember(name: str) -> None:
        left = (len(disk.files), world.state())
        if left == last[0]:
            return
        last[0] = left
        found.append(Point(name, copy.deepcopy(world), Disk(disk.files)))

    controller = start(world, directory, disk.write)
    world.hook = disk.hook = remember
    world.edit = spoil
    to_the_end(controller, world, seconds)
    return found


def taken_up(point: Point, directory: Path, target: Path, away: float) -> tuple[Played, State]:
    """`away`: seconds without any controller."""
    world = point.world
    point.disk.lay(directory, target)
    world.pass_(away)
    world.may_rise = False
    record = to_the_end(again(world, target), world, seconds=400)
    assert record.over or record.at is State.HALTED, (point.name, record.at, record.hold, record.reason)
    return world, record.at


def spoil_promotion(world: Played) -> None:
    if world.share > 450:
        world.release = Release({"errors": 0.5})


KINDS: dict[str, tuple[Release, Callable[[Played], None], int, set[State]]] = {
    "good": (Release(), lambda _: None, 1, {State.DONE}),
    "errors": (Release({"errors": 0.05}), lambda _: None, 1, {State.ROLLED_BACK}),
    "turns bad while promoted": (Release(), spoil_promotion, 3, {State.ROLLED_BACK}),
}


@pytest.mark.parametrize("away", [1.0, 40.0])
def test_killed_anywhere_it_never_routes_to_an_engine_that_did_not_start(tmp_path: Path, away: float) -> None:
    """It halts again, with equal balancers, or a watchdog has ended it and everything is back."""
    world = Played(plan(3, steps_percent=(5.0,), observe_seconds=5.0), Release(broken=frozenset({"e1"})))
    found = [one for one in points(world, tmp_path, seconds=150) if one.world.share > 300]
    assert len(found) > 10
    for number, point in enumerate(found):
        world, at = taken_up(point, tmp_path, tmp_path / f"{number}", away)
        assert (world.hurt, world.unserved, world.violations) == (0, 0, []), (number, point.name)
        assert len({(one.live, one.file) for one in world.balancers.values()}) == 1
        if at is not State.HALTED:
            assert at is State.ROLLED_BACK
            assert away > 30
            assert world.faults(OLD) == []


# Less than the watchdog's 30 s, and more.
AWAY = (1.0, 40.0)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_it_comes_to_the_same_end(tmp_path: Path, kind: str) -> None:
    release, spoil, fewest, ends = KINDS[kind]
    found = points(
        Played(plan(3, fewest=min(fewest, 2), steps_percent=(5.0,), observe_seconds=5.0), release), tmp_path, spoil
    )
    assert len(found) > 100
    for number, point in enumerate(found):
        if not any(path.parent.name == "entries" for path in point.disk.files):
            assert point.world.faults(OLD) == [], "nothing is done before the first entry"
            continue
        world, at = taken_up(point, tmp_path, tmp_path / f"{number}", AWAY[number % 2])
        faults = world.faults(NEW if at is State.DONE else OLD)
        assert not faults, (number, point.name, at, faults)
        # A watchdog that took the share back while engines were promoted has ended the run, rightly.
        assert at in ends or (at is State.ROLLED_BACK and number % 2), (number, point.name, at)


def test_a_torn_entry_holds_the_run_until_a_person_has_looked(tmp_path: Path) -> None:
    """The one before is read, nothing moves, the canary is judged; with a word from a person it goes on."""
    world = Played(plan(3))
    controller = start(world, tmp_path, on_disk)
    until(controller, world, lambda: controller.record.level == 1 and controller.record.phase is Phase.OBSERVE)
    newest = max((tmp_path / "entries").iterdir())
    newest.write_bytes(newest.read_bytes()[:-40])
    second = again(world, tmp_path, on_disk)
    record = to_the_end(second, world, seconds=300)
    assert record.hold is not None
    assert (record.hold.why, record.at, world.share) == (Why.JOURNAL, State.STEP, 100)
    assert f"{newest}: it is torn" in record.hold.reason
    Journal(tmp_path, on_disk).order("resume", "r1", "bob@desk", None, name_of("resume", 10**18, "0123abcd"))
    assert to_the_end(second, world).at is State.DONE
    assert world.faults(NEW) == []


def test_a_canary_that_turns_bad_under_a_torn_journal_is_taken_back(tmp_path: Path) -> None:
    world = Played(plan(3))
    controller = start(world, tmp_path, on_disk)
    until(controller, world, lambda: controller.record.level == 1 and controller.record.phase is Phase.OBSERVE)
    max((tmp_path / "entries").iterdir()).write_bytes(b"")
    world.release = Release({"errors": 0.3})
    assert to_the_end(again(world, tmp_path, on_disk), world).at is State.ROLLED_BACK
    assert world.faults(OLD) == []


def test_a_journal_without_a_whole_entry_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    start(Played(plan(3)), tmp_path, on_disk)
    (only,) = (tmp_path / "entries").iterdir()
    only.write_bytes(b"")
    with pytest.raises(JournalError, match=f"{only.parent} has no whole entry .*scripts/rollback small"):
        Journal(tmp_path).read()


def test_a_plan_that_is_torn_is_an_error(tmp_path: Path) -> None:
    start(Played(plan(3)), tmp_path, on_disk)
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace("small-2", "small-3"))
    with pytest.raises(JournalError, match=r"plan.json cannot be read \(it is torn: its checksum does not fit\)"):
        Journal(tmp_path).read()


def test_what_a_kill_in_the_middle_of_a_write_leaves_is_not_read(tmp_path: Path) -> None:
    start(Played(plan(3)), tmp_path, on_disk)
    (tmp_path / "entries" / ".00000002.new").write_bytes(b"half of a rec")
    assert Journal(tmp_path).read().damaged == ()


def test_the_directory_is_on_disk_after_the_file(tmp_path: Path) -> None:
    """The file before its name, the name before anything else."""
    seen: list[str] = []

    def fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        seen.append(f"{Path(name).name}, named: {(tmp_path / 'it').exists()}")

    write_whole(tmp_path / "it", b"content", fsync)
    assert seen == [".it.new, named: False", f"{tmp_path.name}, named: True"]
    assert (tmp_path / "it").read_bytes() == b"content"


_WRITER = """
import sys
from pathlib import Path
from canary.played import Played, plan
from rackserve.canary.run.goto import begun
from rackserve.canary.run.journal import Journal
world, journal = Played(plan(4)), Journal(Path(sys.argv[1]))
record = begun(world.clock())
journal.create(world.plan, record)
for number in range(1_000_000):
    journal.put(record.model_copy(update={"turn": number, "reason": "x" * 50_000}))
    print(number, flush=True)
"""


def test_a_real_kill_in_the_middle_of_writing_leaves_what_was_said_to_be_written(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parents[1] / 'scripts'}:{tests}"}
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(25):
            said = writer.stdout.readline()
        writer.kill()
        said = ([said, *writer.stdout.read().split()])[-1]
    found = Journal(tmp_path).read()
    assert found.damaged == ()
    assert found.record.turn in (int(said), int(said) + 1)
