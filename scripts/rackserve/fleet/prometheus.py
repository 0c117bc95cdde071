"""A monitor's Prometheus, asked on the monitor itself over ssh: its port is open to nobody else for this.

Everything in one call. That no monitor answers is a result (NoMonitor), because whoever asks goes on without it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from rackserve.fleet.balancers import on_each
from rackserve.fleet.errors import FleetError, NonsenseError
from rackserve.fleet.ssh import Host, host_of


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Sample(_Reply):
    """One series at one moment: (seconds since 1970, value)."""

    metric: Mapping[str, str] = {}
    value: tuple[float, float]

    @property
    def number(self) -> float | None:
        """None where Prometheus says NaN: there was nothing to divide or to rank."""
        return None if math.isnan(self.value[1]) else self.value[1]


class Series(_Reply):
    """One series over a range: (seconds since 1970, value)."""

    metric: Mapping[str, str] = {}
    values: tuple[tuple[float, float], ...]


class Alert(_Reply):
    """An alert as Prometheus sees it; Alertmanager may have silenced it."""

    state: Literal["firing", "pending", "inactive", "unknown"]
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = {}
    activeAt: AwareDatetime | None = None


class _Whole(_Reply):
    now: float
    results: dict[str, tuple[Sample, ...] | tuple[Series, ...]]
    refused: dict[str, str]
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class Range:
    """A query over time: from `start` to `end` (seconds since 1970), a value every `step_seconds`."""

    expression: str
    start: float
    end: float
    step_seconds: float


@dataclass(frozen=True)
class Question:
    """PromQL by the name under which its answer comes."""

    instant: Mapping[str, str]
    ranges: Mapping[str, Range] | None = None
    alerts: bool = False


@dataclass(frozen=True)
class Answer:
    """What one monitor said. `now`: its clock, seconds since 1970. `refused`: name of a query -> why."""

    monitor: str
    now: float
    samples: Mapping[str, tuple[Sample, ...]]
    series: Mapping[str, tuple[Series, ...]]
    refused: Mapping[str, str]
    alerts: tuple[Alert, ...]

    def of(self, name: str) -> tuple[Sample, ...]:
        return self.samples.get(name, ())


@dataclass(frozen=True)
class NoMonitor:
    """Nobody answered; why, by monitor. Empty: the inventory has none."""

    failed: Mapping[str, FleetError]

    def __str__(self) -> str:
        return "; ".join(str(error) for error in self.failed.values()) or "the inventory has no host in monitors"


def monitors_of(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], connect_seconds: int) -> list[Host]:
    return [host_of(name, hosts[name], connect_seconds) for name in plan["monitors"]]


def ask_any(monitors: Sequence[Host], port: int, question: Question, deadline_seconds: float) -> Answer | NoMonitor:
    """Asks all monitors at the same time and takes the first, in the inventory's order, that answered."""
    outcome = on_each(monitors, lambda host: ask(host, port, question, deadline_seconds))
    return next(iter(outcome.done.values()), NoMonitor(outcome.failed))


def ask(host: Host, port: int, question: Question, deadline_seconds: float) -> Answer:
    """Raises a FleetError. The time limit includes the way there, so Prometheus itself gets a little less."""
    ranges = question.ranges or {}
    asked = {
        "port": port,
        "seconds": deadline_seconds * 0.8,
        "queries": {name: {"query": expression} for name, expression in question.instant.items()},
        "ranges": {name: _range(one) for name, one in ranges.items()},
        "alerts": question.alerts,
    }
    said = host.call("prometheus", asked, deadline_seconds)
    try:
        whole = _Whole.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise NonsenseError(host.name, "prometheus", f"{place}: {first['msg']}") from error
    samples: dict[str, tuple[Sample, ...]] = {}
    series: dict[str, tuple[Series, ...]] = {}
    for name, found in whole.results.items():
        samples[name] = tuple(one for one in found if isinstance(one, Sample))
        series[name] = tuple(one for one in found if isinstance(one, Series))
    return Answer(host.name, whole.now, samples, series, whole.refused, whole.alerts)


def _range(one: Range) -> dict[str, str | float]:
    return {"query": one.expression, "start": one.start, "end": one.end, "step": one.step_seconds}
