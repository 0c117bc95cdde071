"""What is known about engines at one moment, as frozen values. Times are seconds; None means that nobody could say, never zero."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

# Looks come every second or so; whoever says nothing for as long is dead.
STALE_SECONDS = 30.0


class Record(BaseModel):
    """What stands on a balancer about an engine that is out or on its way. `holder` empty: nobody works on it.

    `since`, `beat`: seconds since 1970 by that balancer's clock. `step`: draining, drained, held, returning.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str
    by: str
    since: float
    step: str
    holder: str = ""
    beat: float = 0
    reason: str = ""
    streams: int | None = None


@dataclass(frozen=True)
class Engine:
    """From the definition. `slots`: requests at a time, over all balancers. `url`: where balancers reach it."""

    name: str
    pool: str
    node: str
    url: str
    slots: int


@dataclass(frozen=True)
class Place:
    """One balancer's word on one engine. `streams`: requests that run there or wait for it, in every track; `old_streams`: the
    same of processes from before a reload, which take no new ones."""

    drained: bool
    maintained: bool
    running: bool
    serving: bool
    streams: int
    old_streams: int = 0

    @property
    def out(self) -> bool:
        return self.drained or self.maintained


@dataclass(frozen=True)
class Balancer:
    """What one balancer said. `old_unknown`: why its old processes could not be asked; empty: they could. `shares`: pool -> requests
    for canary and baseline in thousandths, as CANARY/BASELINE, of pools in which a release is being tried."""

    name: str
    engines: Mapping[str, Place]
    records: Mapping[str, Record]
    now: float
    maintenance: Mapping[str, int]
    old_unknown: str = ""
    shares: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """The engine's own word: requests that run and that it holds back. `gone`: nobody listens, so nothing runs."""

    requests: float | None
    gone: bool = False
    error: str = ""


@dataclass(frozen=True)
class Peak:
    """The most requests of a pool that ran or waited at a time, of the `known_seconds` of the last day that are known."""

    requests: float
    known_seconds: float


@dataclass(frozen=True)
class Sight:
    """One look. `unreachable`: balancer -> why. `peaks`: pool -> figure, or why there is none."""

    engines: Mapping[str, Engine]
    balancers: Mapping[str, Balancer]
    unreachable: Mapping[str, str]
    pages: Mapping[str, Page]
    peaks: Mapping[str, Peak | str]

    def of_pool(self, pool: str) -> list[Engine]:
        return [one for one in self.engines.values() if one.pool == pool]

    def serving(self, engine: str) -> bool:
        """Some balancer that answers sends requests there."""
        return any(each.engines[engine].serving for each in self.balancers.values() if engine in each.engines)

    def streams(self, engine: str) -> int:
        """At the balancers that answer, old processes included."""
        places = [each.engines[engine] for each in self.balancers.values() if engine in each.engines]
        return sum(place.streams + place.old_streams for place in places)

    def maintained(self, pool: str) -> bool:
        """Every balancer that answers sends the pool's clients away at the moment."""
        return bool(self.balancers) and all(
            max(each.maintenance.get(pool, 0), each.maintenance.get("all", 0)) > each.now
            for each in self.balancers.values()
        )
