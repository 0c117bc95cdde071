"""One look at a pool's split at every balancer, all at the same time."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.moves.sight import Place, Run, Seat, Sight
from rackserve.canary.moves.split import Split
from rackserve.fleet import replies
from rackserve.fleet.balancers import on_each
from rackserve.fleet.errors import NonsenseError
from rackserve.fleet.ssh import Host
from rackserve.fleet.tracks import TRACKS, backend_of

Rows = Sequence[Mapping[str, str]]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    live: str | None
    live_error: str
    states: tuple[str, ...]
    statistics: str
    file: str | None
    broken: tuple[str, ...]
    file_error: str
    old: dict[str, str]
    old_error: str
    record: Run | None
    record_error: str


def observe(split: Split) -> Sight:
    """A balancer that cannot be asked stands in `unreachable`."""
    outcome = on_each(split.balancers, lambda host: look(split, host))
    return Sight(split.pool, outcome.done, {name: str(error) for name, error in outcome.failed.items()})


def look(split: Split, host: Host) -> Place:
    """What one balancer says. Raises FleetError."""
    raw = split.ask(host, "look")
    try:
        said = _Said.model_validate(raw)
        wills = {track: replies.wills(said.states[number]) for number, track in enumerate(TRACKS)}
        rows = replies.statistics(said.statistics)
        old = [replies.statistics(one) for one in said.old.values()]
    except (ValidationError, replies.UnreadableReply, IndexError) as error:
        raise NonsenseError(host.name, f"shares of {split.pool}", str(error)) from error
    seats, waiting = {}, {}
    for track in TRACKS:
        backend = backend_of(split.pool, track)
        seats[track] = {
            name: Seat(
                not (will.maintained or will.drained),
                will.running,
                _requests(rows, backend, name),
                sum(_requests(one, backend, name) for one in old),
            )
            for name, will in wills[track].items()
        }
        waiting[track] = sum(_number(row, "qcur") for each in (rows, *old) for row in _of(each, backend, "BACKEND"))
    return Place(
        host.name,
        said.live,
        said.file,
        seats,
        waiting,
        said.record,
        said.live_error,
        said.file_error,
        said.record_error,
        said.old_error,
        said.broken,
    )


def _of(rows: Rows, backend: str, server: str) -> list[Mapping[str, str]]:
    return [row for row in rows if (row["pxname"], row["svname"]) == (backend, server)]


def _requests(rows: Rows, backend: str, server: str) -> int:
    return sum(_number(row, "scur") + _number(row, "qcur") for row in _of(rows, backend, server))


def _number(row: Mapping[str, str], name: str) -> int:
    return int(row.get(name) or 0)
