"""A pool's split at one moment, as frozen values. None means that nobody could say, never zero."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from rackserve.canary.moves.share import Share, share_of
from rackserve.fleet.tracks import TRACKS


class Stopped(BaseModel):
    """Who stopped a run. `at`: seconds since 1970 by that balancer. `done`: its share has gone, live and on disk. `final`: not even
    its own controller may begin it again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    by: str
    why: str
    at: float
    done: bool
    final: bool = True


class Run(BaseModel):
    """What stands on a balancer about the pool's run. `beat`: seconds between that node's start (`boot`) and the last word of
    the controller; `since`: seconds since 1970. Not `fall_back`: stable could not carry what the canary has, so that the watchdog
    leaves it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str
    by: str
    since: float
    watchdog_seconds: float
    boot: str
    beat: float
    release: str = ""
    fall_back: bool = True
    stopped: Stopped | None = None


@dataclass(frozen=True)
class Seat:
    """An engine in one track of one balancer. `enabled`: this track may send requests to it. `running`: its checks say that it
    lives. `requests`: that run there or wait for this engine; `old_requests`: the same in processes from before a reload."""

    enabled: bool
    running: bool
    requests: int
    old_requests: int = 0

    @property
    def in_flight(self) -> int:
        return self.requests + self.old_requests


@dataclass(frozen=True)
class Place:
    """What one balancer said. `live`, `file`: the raw values of the running process and of the file, None where there is no entry;
    `file_error`: why the file cannot be read. `broken`: lines of the file that HAProxy or the next run of site.yml may read otherwise.

    `seats`: track -> engine. `waiting`: track -> requests that wait for no engine in particular.
    """

    name: str
    live: str | None
    file: str | None
    seats: Mapping[str, Mapping[str, Seat]]
    waiting: Mapping[str, int]
    run: Run | None = None
    live_error: str = ""
    file_error: str = ""
    run_error: str = ""
    old_error: str = ""
    broken: tuple[str, ...] = ()

    @property
    def share(self) -> Share | None:
        """None: it is not known, or no share."""
        return None if self.live_error else share_of(self.live)

    @property
    def filed(self) -> Share | None:
        return None if self.file_error else share_of(self.file)

    def tracks_of(self, engine: str) -> tuple[str, ...]:
        """Those that may send requests to it: one of them, if all is well."""
        return tuple(
            track for track in TRACKS if engine in self.seats.get(track, {}) and self.seats[track][engine].enabled
        )

    def in_flight(self, track: str) -> int:
        """Requests that run on the track or wait for it."""
        return sum(one.in_flight for one in self.seats.get(track, {}).values()) + self.waiting.get(track, 0)


@dataclass(frozen=True)
class Sight:
    """One look. `unreachable`: balancer -> why it could not be asked."""

    pool: str
    places: Mapping[str, Place]
    unreachable: Mapping[str, str] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, Share | None]:
        return {name: place.share for name, place in self.places.items()}


class Back(BaseModel):
    """What one balancer did to take a share back. Raw values, None: no entry. `running`, `waiting`: requests on the canary then,
    None where nobody could say; `old_running`: in processes from before a reload. `run`: the run that was told to stop.

    `refused`: why nothing was done. `stable`: engines of stable in service, and how many the pool has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    live_before: str | None
    live_after: str | None
    live_error: str
    file_before: str | None
    file_error: str
    run: str | None
    run_error: str
    running: int | None
    waiting: int | None
    old_running: int | None
    old_error: str
    refused: str
    stable: tuple[int, int] | None

    @property
    def changed(self) -> bool:
        return self.live_before is not None or self.file_before is not None

    @property
    def undone(self) -> tuple[str, ...]:
        """What could not be done, in the order of danger."""
        if self.refused:
            return (self.refused,)
        found = [f"the running HAProxy: {self.live_error}"] * bool(self.live_error)
        found += [f"the running HAProxy says {self.live_after} again: who gives it?"] if self.live_after else []
        found += [f"its file keeps the share, and a reload would bring it back: {self.file_error}"] * bool(
            self.file_error
        )
        found += [f"its run could not be told: {self.run_error}"] * bool(self.run_error)
        return tuple(found)
