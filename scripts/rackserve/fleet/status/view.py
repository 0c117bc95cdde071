"""HAProxy's rows read as pools and engines. Pure: what one balancer said goes in, numbers come out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rackserve.fleet.drain.sight import Record
from rackserve.fleet.haproxy_files import TRACKS
from rackserve.fleet.runtime import Overview

Row = Mapping[str, str]
# A server that is in no track is disabled there; one that follows another's maintenance says so in brackets.
_ELSEWHERE = "MAINT"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class View:
    """One balancer, asked. `holds_address` None: there is no virtual address, or it could not be looked up (`address_error`).

    `records`: of drains, by engine; `now`: that balancer's clock, None when the records could not be read (`records_error`).
    """

    name: str
    overview: Overview
    holds_address: bool | None = None
    address_error: str | None = None
    records: Mapping[str, Record] = field(default_factory=dict)
    now: float | None = None
    records_error: str | None = None


@dataclass(frozen=True)
class Load:
    """Requests of one pool at one balancer."""

    in_flight: int
    queued: int
    waiting_room: int
    # Seconds, over the last `counted` requests (1024 at most): in the queue, to the first byte, in all.
    means: tuple[float, float, float]
    counted: int


def rows(view: View) -> dict[tuple[str, str], Row]:
    return {(row["pxname"], row["svname"]): row for row in view.overview.statistics}


def backends(pool: str) -> list[str]:
    """A pool's backends in HAProxy, by track."""
    return [f"pool-{pool}-{track}" for track in TRACKS]


def load(found: Mapping[tuple[str, str], Row], pool: str, engines: Iterable[str]) -> Load | None:
    """None: this balancer does not know the pool. A backend counts whoever is in it, wherever they wait or run."""
    own = [(name, found[name, "BACKEND"]) for name in backends(pool) if (name, "BACKEND") in found]
    if not own:
        return None
    servers = [found[name, engine] for name, _ in own for engine in engines if (name, engine) in found]
    in_flight = sum(_number(row, "scur") for row in servers)
    queued = sum(_number(row, "qcur") for row in [*servers, *(row for _, row in own)])
    inside = sum(_number(row, "scur") for _, row in own)
    weights = [min(_number(row, "stot"), 1024) for _, row in own]
    counted = sum(weights)
    queue, first, whole = (
        sum(_number(row, name) * weight for (_, row), weight in zip(own, weights, strict=True)) / max(counted, 1) / 1000
        for name in ("qtime", "rtime", "ttime")
    )
    return Load(in_flight, queued, max(inside - in_flight - queued, 0), (queue, queue + first, whole), counted)


def track_of(found: Mapping[tuple[str, str], Row], pool: str, engine: str) -> str | None:
    """The track in which the engine stands; None: in none, or unknown here."""
    for track, backend in zip(TRACKS, backends(pool), strict=True):
        row = found.get((backend, engine))
        if row is not None and row["status"] != _ELSEWHERE:
            return track
    return None


def state_of(found: Mapping[tuple[str, str], Row], pool: str, engine: str) -> str:
    """What keeps the engine from work, the operator's and the checks' word first, then the breaker's."""
    health, breaker = found.get(("engines", engine)), found.get(("breakers", engine))
    if health is None:
        return UNKNOWN
    status = health["status"]
    for beginning, words in (("MAINT", "maintenance"), ("DRAIN", "drained"), ("DOWN", "down"), ("NOLB", "draining")):
        if status.startswith(beginning):
            return words
    if breaker is not None and breaker["status"] == _ELSEWHERE:
        return "breaker open"
    if track_of(found, pool, engine) is None:
        return "out of its pool"
    return "up" if status in ("UP", "no check") else "going down"


def engine_load(found: Mapping[tuple[str, str], Row], pool: str, engine: str) -> tuple[int, int]:
    """Requests that run there through this balancer, and the slots it has for this balancer in its track."""
    servers = [found[name, engine] for name in backends(pool) if (name, engine) in found]
    slots = max((_number(row, "slim") for row in servers), default=0)
    return sum(_number(row, "scur") for row in servers), slots


def merged_state(states: Mapping[str, str]) -> str:
    """One word where all balancers agree; else each one's."""
    if not states:
        return UNKNOWN
    if len(set(states.values())) == 1:
        return next(iter(states.values()))
    return ", ".join(f"{state} at {name}" for name, state in states.items())


def information(view: View, name: str) -> int | None:
    text = view.overview.information.get(name, "")
    return int(text) if text.isdigit() else None


def engines_of(plan: Mapping[str, Any], pool: str) -> Sequence[str]:
    return [str(name) for name in plan["pools"][pool]["engines"]]


def _number(row: Row, name: str) -> int:
    text = row.get(name) or ""
    return int(text) if text.lstrip("-").isdigit() else 0
