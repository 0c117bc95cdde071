"""What happened in a run, line by line, for the report. Nothing hangs on it: a line that was torn is left out."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from rackserve.canary.judge.counts import Metric
from rackserve.canary.judge.verdict import Outcome, Verdict
from rackserve.canary.run.record import Record, State, Why
from rackserve.canary.run.world import Event, Frozen, Share, Track


class Counted(Frozen):
    """One metric at one look: (bad, of) of both sides, and natural logarithms of e-values and of their limit."""

    metric: Metric
    decides: bool
    canary: tuple[int, int]
    control: tuple[int, int]
    log_e: float
    log_e_absolute: float
    log_limit: float


class Look(Frozen):
    """How it stands from then on. `at`: seconds since 1970. `counted` is of the step `judged_where`, `judged_level`, which a verdict may
    just have ended, against `control`."""

    kind: Literal["look"] = "look"
    at: float
    state: State
    where: State
    level: int
    share: Share
    hold: Why | None = None
    over: bool = False
    judged_where: State
    judged_level: int
    control: Track
    outcome: Outcome
    reason: str
    counted: tuple[Counted, ...] = ()


class Told(Frozen):
    kind: Literal["told"] = "told"
    at: float
    event: Event


class Checked(Frozen):
    """Something that was looked at before users were."""

    kind: Literal["checked"] = "checked"
    at: float
    name: str
    outcome: Outcome
    reason: str


Line = Annotated[Look | Told | Checked, Field(discriminator="kind")]
_LINE: TypeAdapter[Look | Told | Checked] = TypeAdapter(Line)


def look(at: float, record: Record, judged: Record, verdict: Verdict) -> Look:
    """`judged`: the record that the verdict is about."""
    counted = tuple(
        Counted(
            metric=one.metric,
            decides=one.decides,
            canary=(one.canary.bad, one.canary.of),
            control=(one.baseline.bad, one.baseline.of),
            log_e=one.log_e,
            log_e_absolute=one.log_e_absolute,
            log_limit=one.log_limit,
        )
        for one in verdict.findings
    )
    return Look(
        at=at,
        state=record.state,
        where=record.where,
        level=record.level,
        share=record.share,
        hold=record.hold.why if record.hold else None,
        over=record.over,
        judged_where=judged.where,
        judged_level=judged.level,
        control=judged.control,
        outcome=verdict.outcome,
        reason=verdict.reason,
        counted=counted,
    )


def parsed(text: str) -> tuple[Look | Told | Checked, ...]:
    """Lines that are whole, in their order; a clock that was set back does not set the run back."""
    found: list[Look | Told | Checked] = []
    for line in text.splitlines():
        try:
            one = _LINE.validate_json(line)
        except ValidationError:
            continue
        last = found[-1].at if found else one.at
        found.append(one.model_copy(update={"at": max(one.at, last)}))
    return tuple(found)
