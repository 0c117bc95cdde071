"""The record of a pool's run on every balancer, and the heartbeat of its controller there: the watchdog's only source."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.moves.sight import Run, Stopped
from rackserve.canary.moves.split import DEADLINE_SECONDS, Split
from rackserve.fleet.balancers import Outcome, on_each
from rackserve.fleet.errors import FleetError, NonsenseError
from rackserve.fleet.ssh import Host


class _Said(BaseModel):
    """`taken`: the run that stands there instead; an empty one: none does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    taken: dict[str, Any] | None
    stopped: Stopped | None = None
    silent_seconds: float = 0


@dataclass(frozen=True)
class Pulse:
    """What the balancers say to a controller. `failed`: those that could not be told; their watchdogs count on. `taken`: those with
    another run, or with none. `stopped`: those at which somebody has taken this run's share for good."""

    told: tuple[str, ...]
    failed: Mapping[str, FleetError]
    taken: Mapping[str, str]
    stopped: Mapping[str, Stopped]

    @property
    def well(self) -> bool:
        return not (self.failed or self.taken or self.stopped)


def begin(split: Split, run: str, by: str, watchdog_seconds: float, release: str = "") -> Pulse:
    """Before the first share, and by whoever takes up a run again, also after the watchdog has stopped it. Where another run is
    alive nothing is written; and where one balancer has one, or cannot be asked, the records at the others are taken away again,
    unless a share stands there."""
    pulse = _tell_all(split, split.balancers, "begin", run, by=by, watchdog_seconds=watchdog_seconds, release=release)
    if not pulse.well:
        _tell_all(split, [host for host in split.balancers if host.name in pulse.told], "end", run)
    return pulse


def beat(split: Split, run: str, watchdog_seconds: float | None = None, fall_back: bool = True) -> Pulse:
    """Says that the controller is there. Oftener than a third of the watchdog's time, or one lost beat is too many. Not
    `fall_back`: stable could not carry what the canary has, and the watchdog leaves it. `watchdog_seconds`: from now on."""
    news = {"fall_back": fall_back} | ({} if watchdog_seconds is None else {"watchdog_seconds": watchdog_seconds})
    return _tell_all(split, split.balancers, "beat", run, news=news)


def end(split: Split, run: str) -> Pulse:
    """Nothing is left to be watched. A balancer where the pool still has a share refuses."""
    return _tell_all(split, split.balancers, "end", run)


def _tell_all(split: Split, hosts: Sequence[Host], action: str, run: str, **more: Any) -> Pulse:
    outcome: Outcome[_Said] = on_each(hosts, lambda host: _tell(split, host, action, run, more))
    taken = {name: _whose(said.taken) for name, said in outcome.done.items() if said.taken is not None}
    stopped = {name: said.stopped for name, said in outcome.done.items() if said.stopped is not None}
    told = tuple(name for name in outcome.done if name not in taken and name not in stopped)
    return Pulse(told, outcome.failed, taken, stopped)


def _tell(split: Split, host: Host, action: str, run: str, more: Mapping[str, Any]) -> _Said:
    raw = host.call("canary_runs", {**split.places(host), "action": action, "run": run, **more}, DEADLINE_SECONDS)
    try:
        return _Said.model_validate(raw)
    except ValidationError as error:
        raise NonsenseError(host.name, f"run of {split.pool}", str(raw)[:200]) from error


def _whose(record: Mapping[str, Any]) -> str:
    if not record:
        return "there is no record of a run"
    try:
        run = Run.model_validate(record)
    except ValidationError:
        return f"a record that cannot be read: {str(record)[:100]}"
    if run.stopped is not None:
        return f"run {run.run} of {run.by}, which {run.stopped.by} has stopped: {run.stopped.why}"
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.since))
    return f"run {run.run} of {run.by}{f' with {run.release}' if run.release else ''} is on its way since {since}"
