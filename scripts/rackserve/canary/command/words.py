"""What scripts/canary says, and the exit codes that runs come to. Pure."""

import time
from typing import Any

from rackserve.canary.command.load import Load
from rackserve.canary.run.command import Row
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.preflight import Objections
from rackserve.canary.run.record import Record, State

DONE, FAILED, WRONG, UNKNOWN, HELD = 0, 1, 2, 3, 4


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def intention(plan: Plan, load: Load, slots: int) -> tuple[str, ...]:
    """What a run will do, before anybody says yes."""
    rest = len(plan.engines) - 1 - (plan.baseline is not None)
    steps = ", ".join(level.name for level in plan.levels)
    compared = f"{plan.baseline} gets the same share as the control" if plan.baseline else "stable is the control"
    end = "Then it ends: a trial of A against A." if plan.trial else f"Then {', '.join(plan.order)} get it one by one."
    return (
        f"run {plan.run}: {plan.release} on pool {plan.pool}, which runs {plan.before}",
        f"  {plan.canary} is drained, gets {plan.release} and is tried by the service itself; {compared}",
        f"  users: {steps}. A bad release is taken back by itself. {end}",
        f"  {rest or len(plan.engines) - 1} other engines of {slots} slots serve meanwhile; the most of a day was {load.peak:g} "
        "requests at a time",
        *(f"  {note}" for note in load.notes),
    )


def against(objections: Objections) -> tuple[str, ...]:
    found = [f"  against it: {why}" for why in objections.refused]
    found += [f"  not known: {why}" for why in objections.unknown]
    return (*found, *(f"  {note}" for note in objections.notes))


def ended(plan: Plan, record: Record) -> tuple[int, str]:
    """The exit code and the last line of a command that drove a run."""
    run = f"run {plan.run}"
    if record.at is State.DONE:
        return DONE, (
            f"{run}: {record.reason or f'pool {plan.pool} runs {plan.release}.'} Write release: {plan.release} into the definition of pool "
            f"{plan.pool}, or the next site.yml goes back"
        )
    if record.at is State.HALTED:
        return (
            HELD,
            f"{run}: halted, no user is on the canary: {record.reason} scripts/canary resume {plan.run} goes on",
        )
    if not record.over:
        return (
            HELD,
            f"{run}: not over ({record.state.value.replace('_', ' ')}). scripts/canary resume {plan.run} goes on",
        )
    troubles = f" What is left to do by hand: {'; '.join(record.troubles)}." if record.troubles else ""
    if plan.trial and record.reason.startswith("The trial is over"):
        return (FAILED if troubles else DONE), f"{run}: {record.reason}{troubles}"
    if not record.touched:
        return HELD, f"{run}: refused, and nothing was changed: {record.reason}"
    return FAILED, f"{run}: rolled back, pool {plan.pool} runs {plan.before}: {record.reason}{troubles}"


def over(one: Row) -> bool:
    """One whose journal is damaged may not be."""
    return one.record is not None and one.record.over


def row(one: Row) -> str:
    """A line of the history."""
    if one.plan is None or one.record is None:
        return f"{one.directory.name}  {one.damaged}"
    state = one.record.state.value.replace("_", " ")
    return f"{one.plan.run}  {moment(one.plan.since)}  {one.plan.pool}  {one.plan.before} -> {one.plan.release}  {state}  by {one.plan.by}"


def listed(one: Row, alive: bool) -> dict[str, Any]:
    """For programs."""
    if one.plan is None or one.record is None:
        return {"run": one.directory.name, "damaged": one.damaged}
    record = one.record
    return {
        "run": one.plan.run,
        "pool": one.plan.pool,
        "release": one.plan.release,
        "before": one.plan.before,
        "by": one.plan.by,
        "since": one.plan.since,
        "state": record.state.value,
        "where": record.where.value,
        "over": record.over,
        "driven_here": alive,
        "share": {"canary": record.share.canary, "baseline": record.share.baseline},
        "held": record.hold.reason if record.hold else "",
        "reason": record.reason,
        "canary": one.plan.canary,
        "baseline": one.plan.baseline,
        "troubles": list(record.troubles),
    }
