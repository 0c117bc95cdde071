"""A run's plan, record and timeline as the report's record. Pure."""

from collections.abc import Iterator, Sequence
from typing import Literal

from rackserve.canary.judge.counts import METRICS
from rackserve.canary.judge.counts import Metric as Name
from rackserve.canary.judge.verdict import WORDS
from rackserve.canary.report.record import Act, Check, Evidence, Gate, Metric, SharePoint, Step, Tally, Track
from rackserve.canary.report.record import Record as Report
from rackserve.canary.run.plan import LATENCY, Plan
from rackserve.canary.run.record import CARRYING, Record, State, Why
from rackserve.canary.run.timeline import Checked, Counted, Look, Told

Lines = Sequence[Look | Told | Checked]


def reported(plan: Plan, record: Record, lines: Lines) -> Report:
    looks = [one for one in lines if isinstance(one, Look)]
    told = [one for one in lines if isinstance(one, Told)]
    ended = looks[-1].at if record.over and looks else None
    return Report(
        run=plan.run,
        pool=plan.pool,
        release_before=plan.before,
        release=plan.release,
        same_model=plan.same_model,
        trial=plan.trial,
        who=plan.by,
        started=plan.since,
        ended=None if ended is None else max(ended, plan.since),
        outcome=_outcome(record),
        reason=record.hold.reason if record.hold else record.reason or f"It is {record.state.value.replace('_', ' ')}.",
        false_rollback_percent=100 * plan.false_rollback,
        shares=tuple(_shares(looks)),
        steps=tuple(_steps(plan, looks)),
        checks=tuple(
            Check(name=one.name, at=one.at, outcome=one.outcome, reason=one.reason or "Nothing was found.")
            for one in lines
            if isinstance(one, Checked)
        ),
        metrics=tuple(_metric(plan, name, looks) for name in METRICS if any(one.counted for one in looks)),
        gates=tuple(_gates(plan, record, looks, told)),
        acts=tuple(_act(plan, one) for one in told if one.event.kind in ("traffic", "approved", "rolled_back")),
        notes=_notes(plan),
    )


def _outcome(record: Record) -> Literal["running", "promoted", "rolled_back", "held", "halted"]:
    if record.over:
        return "promoted" if record.at is State.DONE else "rolled_back"
    if record.at is State.HALTED:
        return "halted"
    return "held" if record.hold else "running"


def _shares(looks: Sequence[Look]) -> Iterator[SharePoint]:
    last = None
    for one in looks:
        if one.share != last:
            yield SharePoint(at=one.at, canary=one.share.canary, baseline=one.share.baseline)
        last = one.share


def _name(plan: Plan, where: State, level: int) -> str:
    """Empty where no user is on the canary."""
    if where not in CARRYING or level < 0:
        return ""
    return "promoting" if where is State.PROMOTING else plan.levels[level].name


def _stretches(plan: Plan, looks: Sequence[Look]) -> Iterator[tuple[str, list[Look]]]:
    """Looks of one step after the other, holds within it included."""
    name, found = "", list[Look]()
    for one in looks:
        here = _name(plan, one.where, one.level)
        if here != name and found:
            yield name, found
        if here != name:
            name, found = here, []
        if here:
            found.append(one)
    if found:
        yield name, found


def _steps(plan: Plan, looks: Sequence[Look]) -> Iterator[Step]:
    for name, found in _stretches(plan, looks):
        first, last = found[0], found[-1]
        to = next((one.at for one in looks[looks.index(last) + 1 :]), None)
        until = last.at if to is None else to
        judged = [
            one
            for one in looks
            if one.counted and first.at <= one.at <= until and _name(plan, one.judged_where, one.judged_level) == name
        ]
        shown = judged[-1] if judged else last
        yield Step(
            name=name, start=first.at, to=to, canary=last.share.canary, baseline=last.share.baseline,
            outcome=shown.outcome, reason=shown.reason,
        )  # fmt: skip


def _tally(sums: tuple[int, int]) -> Tally:
    return Tally(bad=sums[0], of=sums[1])


def _metric(plan: Plan, name: Name, looks: Sequence[Look]) -> Metric:
    seen = [(one, counted) for one in looks for counted in one.counted if counted.metric == name]
    decides = any(counted.decides for _, counted in seen)
    return Metric(
        name=name,
        words=WORDS[name],
        decides=decides,
        tolerance=plan.tolerances.get(name, 0.0),
        log_limit=seen[-1][1].log_limit,
        totals=_totals(seen),
        looks=tuple(_evidence(plan, one, counted) for one, counted in seen),
    )


def _evidence(plan: Plan, one: Look, counted: Counted) -> Evidence:
    return Evidence(
        at=one.at,
        step=_name(plan, one.judged_where, one.judged_level),
        canary=_tally(counted.canary),
        baseline=_tally(counted.control),
        log_e=counted.log_e,
        log_e_absolute=counted.log_e_absolute,
    )


def _totals(seen: Sequence[tuple[Look, Counted]]) -> dict[Track, Tally]:
    """Sums over windows: what a window counted last, before the next began at nothing."""
    found: dict[Track, Tally] = {}
    for place, (one, counted) in enumerate(seen):
        following = seen[place + 1] if place + 1 < len(seen) else None
        goes_on = following is not None and (
            following[0].control == one.control
            and following[1].canary[1] >= counted.canary[1]
            and following[1].control[1] >= counted.control[1]
        )
        if not goes_on:
            _add(found, "canary", counted.canary)
            _add(found, one.control, counted.control)
    return found


def _add(found: dict[Track, Tally], track: Track, sums: tuple[int, int]) -> None:
    before = found.get(track, Tally(bad=0, of=0))
    found[track] = Tally(bad=before.bad + sums[0], of=before.of + sums[1])


def _gates(plan: Plan, record: Record, looks: Sequence[Look], told: Sequence[Told]) -> Iterator[Gate]:
    opened: dict[int, float] = {}
    for one in looks:
        if one.hold is Why.GATE:
            opened.setdefault(one.level + 1, one.at)
    approvals = [one for one in told if one.event.kind == "approved"]
    for level, at in opened.items():
        given = next((one for one in approvals if one.at >= at), None)
        if given is not None:
            approvals.remove(given)
            by = given.event.said.rpartition(" by ")[2]
            yield Gate(step=plan.levels[level].name, opened=at, decided=given.at, by=by, decision="approved")
        elif record.over or record.at is State.ROLLING_BACK:
            yield Gate(step=plan.levels[level].name, opened=at, decision="aborted")
        else:
            yield Gate(step=plan.levels[level].name, opened=at, decision="waiting")


def _act(plan: Plan, one: Told) -> Act:
    who, _, where = one.event.by.rpartition("@")
    return Act(
        at=one.at,
        who=who or one.event.by,
        where=where,
        what=one.event.said,
        before=one.event.before,
        after=one.event.after,
    )


def _notes(plan: Plan) -> tuple[str, ...]:
    unjudged = sorted(plan.measured_only)
    found = [f"{WORDS[name]}: shown, not judged" for name in unjudged]
    if plan.baseline is None and not any(level.parity for level in plan.levels):
        found += [f"{WORDS[name]}: judged while it was promoted only" for name in sorted(LATENCY - plan.measured_only)]
    return (*plan.notes, *found)
