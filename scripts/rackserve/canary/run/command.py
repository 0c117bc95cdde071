"""What other processes do with a run: find it, tell it something and wait for the answer, say how it stands. Changes nothing but an
order's file."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rackserve.canary.run.journal import Journal, JournalError, Kind, name_of
from rackserve.canary.run.lock import living, runs
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Record, State
from rackserve.canary.run.tasks import tasks

_LOOK_SECONDS = 0.1


class UnknownRun(Exception):
    """No run has that id. Names those there are. `exit_code`: of the command."""

    exit_code = 2


@dataclass(frozen=True)
class Row:
    """One run for people. `damaged`: why its journal cannot be read; then nothing else is known."""

    directory: Path
    plan: Plan | None = None
    record: Record | None = None
    damaged: str = ""


def history(root: Path) -> tuple[Row, ...]:
    """Every run of every pool that is kept here, the newest first."""
    pools = sorted(one.name for one in root.iterdir() if one.is_dir()) if root.is_dir() else []
    found = [_row(directory) for pool in pools for directory in runs(root, pool)]
    return tuple(sorted(found, key=lambda one: one.plan.since if one.plan else 0, reverse=True))


def _row(directory: Path) -> Row:
    try:
        found = Journal(directory).read()
    except JournalError as error:
        return Row(directory, damaged=str(error))
    return Row(directory, found.plan, found.record)


def find(root: Path, run: str) -> Row:
    """Raises UnknownRun."""
    every = history(root)
    for one in every:
        if one.directory.name == run:
            return one
    known = ", ".join(one.directory.name for one in every[:5])
    raise UnknownRun(f"no run {run!r} is kept in {root}. The newest: {known or 'none'}")


def give(
    root: Path,
    run: str,
    kind: Kind,
    by: str,
    step: float | None = None,
    seconds: float = 15,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[int, str]:
    """Tells the run and waits for the answer. The command's exit code, and what came of it. Raises UnknownRun, JournalError."""
    row = find(root, run)
    if row.plan is None:
        return 1, row.damaged
    journal = Journal(row.directory)
    name = name_of(kind, time.time_ns(), os.urandom(4).hex())
    if not living(root, row.plan.pool):
        return 4, (
            f"nobody drives run {run} on this machine, so nobody would do it. scripts/canary resume {run} takes it up; "
            f"scripts/rollback {row.plan.pool} takes its share back at once, without it"
        )
    journal.order(kind, run, by, step, name)
    ends = clock() + seconds
    while (said := journal.answered(name)) is None:
        if clock() > ends:
            return 3, f"run {run} has not answered within {seconds:g} s; the order stands and will be read"
        sleep(_LOOK_SECONDS)
    return (4 if said.startswith("refused") else 0), said


def lines(row: Row, alive: bool) -> tuple[str, ...]:
    """How a run stands, for people."""
    plan, record = row.plan, row.record
    if plan is None or record is None:
        return (row.damaged,)
    state = record.state.value.replace("_", " ")
    found = [f"run {plan.run}: {plan.release} on pool {plan.pool}, by {plan.by}: {state}{_at(plan, record)}"]
    if record.hold:
        found.append(f"  held: {record.hold.reason}")
    elif record.reason:
        found.append(f"  {record.reason}")
    if not record.over:
        found.append(f"  users on: {record.share}; the canary's engine: {plan.canary}; the control: {record.control}")
        script = tasks(plan, record)
        if record.task < len(script):
            found.append(f"  next: {script[record.task]}")
        if not alive:
            found.append(f"  nobody drives it on this machine: scripts/canary resume {plan.run}")
    return tuple(found)


def _at(plan: Plan, record: Record) -> str:
    if record.over:
        return ""
    if record.where in (State.STEP, State.LOAD_PARITY):
        return f" at {plan.levels[record.level].name} ({record.phase.value})"
    return f" in {record.where.value.replace('_', ' ')}" if record.state is not record.where else ""
