"""A run as the report needs it: plain, complete, and the same in JSON. Times are seconds since 1970, shares thousandths."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rackserve.definition.models.base import Strict, refuse

Track = Literal["stable", "baseline", "canary"]
TRACKS: tuple[Track, ...] = ("canary", "baseline", "stable")
Outcome = Literal["pass", "fail", "inconclusive", "source_unreachable"]
Thousandths = Annotated[int, Field(ge=0, le=1000)]
Number = Annotated[int, Field(ge=0)]


def _finite(value: float) -> float:
    if not abs(value) < float("inf"):
        raise refuse("is not a number that can be drawn", "a finite number")
    return value


Real = Annotated[float, AfterValidator(_finite)]
Time = Annotated[Real, Field(ge=0)]


class Tally(Strict):
    """Of one track: bad events of so many requests that could have been bad."""

    bad: Number
    of: Number

    @model_validator(mode="after")
    def _fits(self) -> "Tally":
        if self.bad > self.of:
            raise refuse(f"has {self.bad} bad events of {self.of} requests", "at most as many as requests")
        return self


class SharePoint(Strict):
    """From this moment on: shares of the pool's requests."""

    at: Time
    canary: Thousandths
    baseline: Thousandths


class Step(Strict):
    """`name`: as the operator sees it, such as "5 %". `to`: None while it lasts."""

    name: str
    start: Time
    to: Time | None = None
    canary: Thousandths
    baseline: Thousandths
    outcome: Outcome
    reason: str


class Evidence(Strict):
    """What was seen of one metric at one look: natural logarithms of e-values, against the baseline and against the SLO."""

    at: Time
    step: str
    canary: Tally
    baseline: Tally
    log_e: Real
    log_e_absolute: Real = 0.0


class Metric(Strict):
    """One metric over the run. `totals`: of each track over the whole run. `log_limit`: at which a run is taken back.

    `decides`: False for one that is only shown. `tolerance`: rate above the baseline's that is allowed.
    """

    name: str
    words: str
    decides: bool
    tolerance: Annotated[Real, Field(ge=0)]
    log_limit: Annotated[Real, Field(gt=0)]
    totals: Mapping[Track, Tally]
    looks: tuple[Evidence, ...] = ()


class Histogram(Strict):
    """Requests by seconds. `edges`: upper edges, rising; each track has one count more than there are edges (the slowest)."""

    title: str
    edges: Annotated[tuple[Annotated[Real, Field(gt=0)], ...], Field(min_length=1)]
    counts: Mapping[Track, tuple[Number, ...]]

    @model_validator(mode="after")
    def _fits(self) -> "Histogram":
        if any(later <= earlier for earlier, later in pairwise(self.edges)):
            raise refuse("edges do not rise", "rising seconds")
        for track, counts in self.counts.items():
            if len(counts) != len(self.edges) + 1:
                raise refuse(f"{track} has {len(counts)} counts for {len(self.edges)} edges", f"{len(self.edges) + 1}")
        return self


class ErrorKind(Strict):
    """Failed requests of one kind, by track."""

    what: str
    counts: Mapping[Track, Number]


class Check(Strict):
    """Something that was looked at before users were: preflight, smoke, quality."""

    name: str
    at: Time
    outcome: Outcome
    reason: str


class Gate(Strict):
    """A step that needed a person. `by`, `decided`: None while it waits."""

    step: str
    opened: Time
    decided: Time | None = None
    by: str | None = None
    decision: Literal["waiting", "approved", "aborted"]


class Act(Strict):
    """One line of the audit: who did what, from where, and what was changed by it."""

    at: Time
    who: str
    where: str
    what: str
    before: str = ""
    after: str = ""


class Record(Strict):
    """`outcome`: how it stands. `ended`: None while it runs. `notes`: what the reader has to know, such as what was not judged."""

    run: str
    pool: str
    release_before: str
    release: str
    same_model: bool
    trial: bool = Field(default=False, description="An A/A run: both releases are the same")
    who: str
    started: Time
    ended: Time | None = None
    outcome: Literal["running", "promoted", "rolled_back", "held", "halted"]
    reason: str
    false_rollback_percent: Annotated[Real, Field(gt=0, le=100)]
    shares: tuple[SharePoint, ...] = ()
    steps: tuple[Step, ...] = ()
    checks: tuple[Check, ...] = ()
    metrics: tuple[Metric, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    errors: tuple[ErrorKind, ...] = ()
    gates: tuple[Gate, ...] = ()
    acts: tuple[Act, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> "Record":
        if any(later.at < earlier.at for earlier, later in pairwise(self.shares)):
            raise refuse("shares are not in the order of their time", "the earliest first")
        if any(point.canary + point.baseline > 1000 for point in self.shares):
            raise refuse("shares are more than all requests", "canary and baseline together at most 1000 thousandths")
        if self.ended is not None and self.ended < self.started:
            raise refuse("the run ends before it starts", "`ended` after `started`")
        return self

    @property
    def last(self) -> float:
        """When the last thing happened that is known."""
        moments = [point.at for point in self.shares] + [look.at for metric in self.metrics for look in metric.looks]
        moments += [act.at for act in self.acts] + [step.to or step.start for step in self.steps]
        return self.ended if self.ended is not None else max([self.started, *moments])
