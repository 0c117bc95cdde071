"""Drives a run in the foreground, from its preflight to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rackserve.canary.command import prepare, words
from rackserve.canary.command.prepare import Asked
from rackserve.canary.run.command import Row, find
from rackserve.canary.run.controller import Controller, moment, taken_up
from rackserve.canary.run.forecast import forecast
from rackserve.canary.run.forecast import lines as forecast_lines
from rackserve.canary.run.goto import begun
from rackserve.canary.run.journal import Journal, JournalError
from rackserve.canary.run.lock import alone, free
from rackserve.canary.run.preflight import objections
from rackserve.canary.run.record import Record
from rackserve.canary.world.rack import Rack
from rackserve.canary.world.site import Access

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """`code`: of the command."""

    code: int
    said: str
    run: str = ""


def start(asked: Asked, access: Access, root: Path, dry_run: bool, agree: Callable[[], str], say: Say) -> Ended:
    """`agree`: asks a person; returns why not, empty: yes. Raises what `prepared` raises, Taken, JournalError."""
    free(root, asked.pool, words.moment)
    ready = prepare.prepared(asked, access, root)
    plan = ready.plan
    rack = Rack(ready.site, plan, ready.reference, say)
    slots = min(ready.site.fleet.engines[name].slots for name in plan.engines)
    for line in words.intention(plan, ready.load, slots):
        say(line)
    for line in forecast_lines(plan, forecast(plan, ready.load.per_second, ready.load.rates), ready.load.per_second):
        say(f"  {line}")
    found = objections(plan, rack.observe())
    for line in words.against(found):
        say(line)
    if found.exit_code:
        return Ended(found.exit_code, f"not started, nothing was changed: {found.said}")
    if dry_run:
        return Ended(words.DONE, "dry run: it could start; nothing was changed")
    if refusal := agree():
        return Ended(words.HELD, f"not started, nothing was changed: {refusal}")
    directory = root / plan.pool / plan.run
    with alone(root, plan.pool, f"run {plan.run} by {plan.by}"):
        free(root, plan.pool, words.moment)
        prepare.keep_access(directory, access)
        journal = Journal(directory)
        record = begun(moment())
        journal.create(plan, record)
        return _driven(Controller(plan, record, journal, rack, stamped(say)), rack)


def resume(run: str, root: Path, by: str, access: Access | None, say: Say) -> Ended:
    """A run that nobody drives. `access` None: as it was begun. Raises UnknownRun, Taken, JournalError and what `again` raises."""
    row = find(root, run)
    if row.plan is None or row.record is None:
        raise JournalError(row.damaged)
    plan = row.plan
    if row.record.over:
        return Ended(words.HELD, f"it is over: {words.ended(plan, row.record)[1]}", run)
    own = access or prepare.kept_access(row.directory)
    if own is None:
        raise JournalError(f"{row.directory / prepare.ACCESS} cannot be read: say which inventory it is about, with -i")
    site, reference = prepare.again(plan, own, root)
    rack = Rack(site, plan, reference, say)
    with alone(root, plan.pool, f"run {plan.run} by {by}"):
        return _driven(taken_up(Journal(row.directory), rack, stamped(say)), rack)


def _driven(controller: Controller, rack: Rack) -> Ended:
    record: Record = controller.run()
    rack.close()
    code, said = words.ended(controller.plan, record)
    return Ended(code, said, controller.plan.run)


def stamped(say: Say) -> Say:
    """With the time of day, as an operator reads it later."""
    return lambda text: say(f"{time.strftime('%H:%M:%S', time.gmtime())}  {text}")


def gate_of(row: Row) -> tuple[float | None, str]:
    """What `promote` approves: the gate before the last level. None, and why, where the run does not wait there."""
    plan, record = row.plan, row.record
    if plan is None or record is None:
        return None, row.damaged
    last = len(plan.levels) - 1
    if record.over:
        return None, f"run {plan.run} is over ({record.state.value.replace('_', ' ')})"
    if plan.levels[last].gate is None:
        return (
            None,
            f"run {plan.run} has no gate before {plan.levels[last].name}: it is promoted by itself when that was good",
        )
    if record.level + 1 != last or record.hold is None:
        level = plan.levels[record.level].name if record.level >= 0 else record.state.value.replace("_", " ")
        return None, f"run {plan.run} is at {level}; only before {plan.levels[last].name} it can be promoted by hand"
    return plan.levels[last].gate, ""
