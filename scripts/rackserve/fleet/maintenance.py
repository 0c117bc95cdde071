"""Announced work on a pool or on all: balancers answer clients with the planned end, and no alert is told until then.

The file on each balancer comes first, then the running process, then both are read back: a reload in between forgets nothing.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackserve.fleet.errors import FleetError, NonsenseError, RefusedError
from rackserve.fleet.haproxy_files import MAINTENANCE_MAP
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import Host

ALL = "all"
DEAD_MAN = "Watchdog"
DEADLINE_SECONDS = 15.0


class UnknownPool(Exception):
    """No pool has that name."""


@dataclass(frozen=True)
class Window:
    """`key`: a pool, or `all`. Moments in seconds since 1970."""

    key: str
    begins: int
    ends: int
    by: str
    reason: str = ""


@dataclass(frozen=True)
class Silenced:
    """What one monitor did: silences that now hold, and how many ended."""

    monitor: str
    made: tuple[str, ...]
    ended: tuple[str, ...]


def key_of(plan: Mapping[str, Any], word: str) -> str:
    """Raises UnknownPool with the names there are."""
    if word != ALL and word not in plan["pools"]:
        raise UnknownPool(f"{word!r} is no pool. Pools: {', '.join(plan['pools'])}; or {ALL}.")
    return word


def announce(host: Host, directory: str, socket: str, window: Window) -> None:
    """Raises a FleetError when the balancer cannot be asked or does not do it."""
    _write(host, directory, window.begins, put={window.key: str(window.ends)})
    Runtime(host, socket, DEADLINE_SECONDS).put_entry(MAINTENANCE_MAP, window.key, str(window.ends))


def lift(host: Host, directory: str, socket: str, key: str, now: float) -> bool:
    """Whether there was something to lift."""
    runtime = Runtime(host, socket, DEADLINE_SECONDS)
    try:
        ends = runtime.entry(MAINTENANCE_MAP, key)
    except RefusedError:
        # A process from before this map.
        return False
    _write(host, directory, now, drop=[key])
    runtime.drop_entry(MAINTENANCE_MAP, key)
    return ends is not None and int(ends) > now


def _write(
    host: Host, directory: str, now: float, put: Mapping[str, str] | None = None, drop: Sequence[str] = ()
) -> None:
    asked = {"directory": directory, "map": MAINTENANCE_MAP, "now": now, "put": dict(put or {}), "drop": list(drop)}
    standing = host.call("maintenance", asked, DEADLINE_SECONDS)
    if not isinstance(standing, dict) or any(standing.get(key) != value for key, value in (put or {}).items()):
        raise NonsenseError(host.name, "maintenance", f"after it the file says {standing!r}")


def silence(
    monitors: Sequence[Host], port: int, plan: Mapping[str, Any], window: Window
) -> Silenced | dict[str, FleetError]:
    """At the first monitor that answers; they tell each other. Those made before for the same key end. The errors: none did."""
    return _at_any(monitors, port, window.key, silences(plan, window))


def unsilence(monitors: Sequence[Host], port: int, key: str) -> Silenced | dict[str, FleetError]:
    return _at_any(monitors, port, key, [])


def _at_any(
    monitors: Sequence[Host], port: int, key: str, wanted: Sequence[Mapping[str, Any]]
) -> Silenced | dict[str, FleetError]:
    failed: dict[str, FleetError] = {}
    for host in monitors:
        asked = {"port": port, "seconds": DEADLINE_SECONDS / 3, "mark": _mark(key), "silences": list(wanted)}
        try:
            said = host.call("alertmanager", asked, DEADLINE_SECONDS)
            return Silenced(host.name, tuple(said["made"]), tuple(said["ended"]))
        except FleetError as error:
            failed[host.name] = error
        except (KeyError, TypeError):
            failed[host.name] = NonsenseError(host.name, "alertmanager", repr(said)[:200])
    return failed


def _mark(key: str) -> str:
    """How a silence of ours is known again. The colon ends the name: `small` is not `small-2`."""
    return f"rackserve maintenance {key}:"


def silences(plan: Mapping[str, Any], window: Window) -> list[dict[str, Any]]:
    """What must not be told. The dead man's alert goes on in any case: its silence would be the alarm."""
    if window.key == ALL:
        return [_silence(window, _matcher("alertname", DEAD_MAN, equal=False))]
    engines = [one for one in plan["engines"] if one["pool"] == window.key]
    names = "|".join(str(one["name"]) for one in engines)
    found = [
        _silence(window, _matcher("pool", window.key)),
        _silence(window, _matcher("engine", names, regex=True)),
        _silence(window, _matcher("server", names, regex=True)),
    ]
    # Nodes that do nothing else.
    others = {one["node"] for one in plan["engines"] if one["pool"] != window.key}
    others |= {*plan["balancers"], *plan["monitors"]}
    own = "|".join(dict.fromkeys(str(one["node"]) for one in engines if one["node"] not in others))
    return [*found, *([_silence(window, _matcher("node", own, regex=True))] if own else [])]


def _matcher(name: str, value: str, regex: bool = False, equal: bool = True) -> dict[str, Any]:
    return {"name": name, "value": value, "isRegex": regex, "isEqual": equal}


def _silence(window: Window, matcher: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "matchers": [dict(matcher)],
        "startsAt": _iso(window.begins),
        "endsAt": _iso(window.ends),
        "createdBy": window.by,
        "comment": f"{_mark(window.key)} {window.reason or 'planned work'}",
    }


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()


def shown(at: float) -> str:
    """A moment for people."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
