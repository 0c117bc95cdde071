"""What a run leaves for its report is all there, and the report takes it."""

from pathlib import Path

from rackserve.canary.report.record import Record as Report
from rackserve.canary.run.journal import Journal, name_of
from rackserve.canary.run.record import State
from rackserve.canary.run.reported import reported
from rackserve.canary.run.timeline import parsed

from .played import OLD, Played, Release, on_disk, plan, start, to_the_end


def report(directory: Path) -> Report:
    journal = Journal(directory, on_disk)
    found = journal.read()
    return reported(found.plan, found.record, parsed(journal.timeline()))


def test_a_promoted_run_is_told_from_its_first_share_to_its_last(tmp_path: Path) -> None:
    world = Played(plan(4))
    to_the_end(start(world, tmp_path, on_disk), world)
    found = report(tmp_path)
    assert (found.outcome, found.reason, found.who) == ("promoted", "Pool small runs small-2.", "ann@desk")
    assert [point.canary for point in found.shares][:4] == [0, 50, 100, 250]
    assert found.shares[-1].canary == 0
    assert [(step.name, step.outcome) for step in found.steps] == [
        ("5 %", "pass"), ("10 %", "pass"), ("load parity (25 %)", "pass"), ("promoting", found.steps[-1].outcome),
    ]  # fmt: skip
    assert [check.name for check in found.checks][:3] == ["check e4 small-2", "smoke e4", "quality e4"]
    errors = next(one for one in found.metrics if one.name == "errors")
    assert errors.totals["canary"].of > 500
    assert errors.looks
    assert found.ended is not None


def test_totals_count_every_request_of_a_step_once(tmp_path: Path) -> None:
    """At 5 % of 200 requests a second for as long as the step was observed."""
    world = Played(plan(4, observe_seconds=60.0), Release({"errors": 0.05}))
    to_the_end(start(world, tmp_path, on_disk), world)
    found = report(tmp_path)
    errors = next(one for one in found.metrics if one.name == "errors")
    (step,) = found.steps
    assert (found.outcome, step.outcome) == ("rolled_back", "fail")
    assert step.to is not None
    assert step.reason == found.reason
    assert 0 < errors.totals["canary"].of <= (step.to - step.start) * 10 + 1
    assert errors.totals["canary"].bad > 0.04 * errors.totals["canary"].of
    assert max(look.log_e for look in errors.looks) >= errors.log_limit


def test_a_gate_is_told_with_who_opened_it(tmp_path: Path) -> None:
    world = Played(plan(4, gates=(10.0,)))
    controller = start(world, tmp_path, on_disk)
    to_the_end(controller, world, seconds=200)
    waiting = report(tmp_path)
    assert (waiting.outcome, [gate.decision for gate in waiting.gates]) == ("held", ["waiting"])
    Journal(tmp_path, on_disk).order("approve", "r1", "bob@desk", 10.0, name_of("approve", 10**18, "0123abcd"))
    to_the_end(controller, world)
    (gate,) = report(tmp_path).gates
    assert (gate.step, gate.by, gate.decision) == ("10 %", "bob@desk", "approved")


def test_two_engines_are_told_what_was_not_judged_and_whom_it_was_compared_with(tmp_path: Path) -> None:
    world = Played(plan(2))
    to_the_end(start(world, tmp_path, on_disk), world)
    found = report(tmp_path)
    assert "latency only at load parity" in found.notes[-1]
    assert set(found.metrics[0].totals) == {"canary", "stable"}


def test_a_trial_of_a_against_a_ends_before_promotion_and_says_so(tmp_path: Path) -> None:
    world = Played(plan(4, release=OLD))
    record = to_the_end(start(world, tmp_path, on_disk), world)
    assert (record.at, world.faults(OLD), world.highest) == (State.ROLLED_BACK, [], 250)
    assert record.reason == "The trial is over, and nothing was found."
    assert report(tmp_path).trial
    assert all(one.starts == 0 for one in world.engines.values()), "nothing was started anew"


def test_a_torn_line_of_the_timeline_is_left_out(tmp_path: Path) -> None:
    world = Played(plan(4))
    to_the_end(start(world, tmp_path, on_disk), world)
    whole = report(tmp_path)
    path = tmp_path / "timeline.jsonl"
    path.write_text('{"kind": "look", "at": 1' + "\n" + path.read_text() + '{"kind": "told"')
    assert report(tmp_path) == whole
