"""What balancers and Prometheus said -> the snapshot. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackserve.fleet.drain.sight import STALE_SECONDS
from rackserve.fleet.errors import FleetError
from rackserve.fleet.haproxy_files import TRACKS
from rackserve.fleet.prometheus import Answer, NoMonitor
from rackserve.fleet.status import queries
from rackserve.fleet.status.snapshot import Balancer, Drain, Engine, Maintenance, Missing, Pool, Snapshot, Track
from rackserve.fleet.status.view import (
    UNKNOWN,
    Load,
    Row,
    View,
    engine_load,
    engines_of,
    information,
    load,
    merged_state,
    rows,
    state_of,
    track_of,
)

Rows = Mapping[str, Mapping[tuple[str, str], Row]]


@dataclass(frozen=True)
class Seen:
    """Everything that came back. `digests`: of each balancer's configuration as the inventory makes it."""

    plan: Mapping[str, Any]
    at: float
    views: Mapping[str, View]
    failed: Mapping[str, FleetError]
    prometheus: Answer | NoMonitor
    digests: Mapping[str, str]
    unrendered: str | None = None


def snapshot(seen: Seen) -> Snapshot:
    found = {name: rows(view) for name, view in seen.views.items()}
    answer = seen.prometheus if isinstance(seen.prometheus, Answer) else None
    engines = tuple(_engine(one, found, answer) for one in seen.plan["engines"])
    balancers = tuple(_balancer(name, seen) for name in seen.plan["balancers"])
    return Snapshot(
        service=str(seen.plan["name"]),
        at=seen.at,
        balancers=balancers,
        pools=tuple(_pool(name, seen.plan, found, engines) for name in seen.plan["pools"]),
        engines=engines,
        monitor=answer.monitor if answer else None,
        figures_age_seconds=queries.age_seconds(answer) if answer else None,
        users=queries.users(answer) if answer else (),
        budgets=queries.budgets(answer) if answer else (),
        alerts=queries.alerts(answer) if answer else (),
        missing=tuple(_missing(seen, balancers)),
        drains=tuple(_drains(seen.views)),
        maintenance=tuple(_maintenance(seen)),
    )


def _drains(views: Mapping[str, View]) -> list[Drain]:
    """One for each engine: what the balancer says whose record was looked after last, and at which balancers there is one."""
    found = []
    for name in sorted({name for view in views.values() for name in view.records}):
        held = {balancer: view for balancer, view in views.items() if name in view.records}
        last = max(held.values(), key=lambda view: view.records[name].beat)
        one = last.records[name]
        worked_on = bool(one.holder) and 0 <= (last.now or 0) - one.beat < STALE_SECONDS
        found.append(Drain(name, one.step, one.by, one.since, worked_on, one.reason, tuple(held)))
    return found


def _maintenance(seen: Seen) -> list[Maintenance]:
    """What has ended is of the past, although its entry may still stand there."""
    found: dict[tuple[str, float], list[str]] = {}
    for balancer, view in seen.views.items():
        for key, value in view.overview.entries.items():
            if value.isdigit() and int(value) > seen.at:
                found.setdefault((key, float(value)), []).append(balancer)
    return [Maintenance(key, ends, tuple(names)) for (key, ends), names in sorted(found.items())]


def _missing(seen: Seen, balancers: Sequence[Balancer]) -> list[Missing]:
    found = [Missing(f"balancer {name}", str(error)) for name, error in seen.failed.items()]
    if isinstance(seen.prometheus, NoMonitor):
        found.append(Missing("Prometheus: figures of users, budgets, alerts", str(seen.prometheus)))
    else:
        found += queries.gaps(seen.prometheus)
    if seen.unrendered:
        found.append(Missing("configuration that the inventory wants", seen.unrendered))
    found += [
        Missing(f"virtual address at {view.name}", view.address_error)
        for view in seen.views.values()
        if view.address_error
    ]
    found += [
        Missing(f"records of drains at {view.name}", view.records_error)
        for view in seen.views.values()
        if view.records_error
    ]
    address = seen.plan.get("virtual_address")
    if address and all(one.holds_address is False for one in balancers):
        found.append(Missing(f"virtual address {address['address']}", "no balancer holds it"))
    return found


def _pool(name: str, plan: Mapping[str, Any], found: Rows, engines: Sequence[Engine]) -> Pool:
    own = [one for one in engines if one.pool == name]
    loads = [one for one in (load(each, name, engines_of(plan, name)) for each in found.values()) if one is not None]
    means = _means(loads)
    return Pool(
        name,
        tuple(_track(track, own) for track in sorted({one.track for one in own}, key=_order)),
        sum(one.in_flight for one in loads) if loads else None,
        sum(one.slots or 0 for one in own if one.state == "up") if loads else None,
        sum(one.queued for one in loads) if loads else None,
        sum(one.waiting_room for one in loads) if loads else None,
        *means,
    )


def _order(track: str) -> tuple[int, str]:
    """Tracks as they are widened; then engines in none, and those about which the balancers differ."""
    return (TRACKS.index(track) if track in TRACKS else len(TRACKS), track)


def _track(track: str, engines: Sequence[Engine]) -> Track:
    own = [one for one in engines if one.track == track]
    releases = ", ".join(dict.fromkeys(one.release for one in own))
    known = any(one.state != UNKNOWN for one in own)
    return Track(track, releases, sum(one.state == "up" for one in own) if known else None, len(own))


def _means(loads: Sequence[Load]) -> tuple[float | None, float | None, float | None]:
    counted = sum(one.counted for one in loads)
    if not counted:
        return None, None, None
    queue, first, whole = (sum(one.means[at] * one.counted for one in loads) / counted for at in range(3))
    return queue, first, whole


def _engine(one: Mapping[str, Any], found: Rows, answer: Answer | None) -> Engine:
    name, pool = str(one["name"]), str(one["pool"])
    tracks = {balancer: track_of(each, pool, name) or "none" for balancer, each in found.items()}
    states = {balancer: state_of(each, pool, name) for balancer, each in found.items()}
    loads = [engine_load(each, pool, name) for each in found.values()]
    running, waiting, cache = (
        queries.engine_figures(answer, figure).get(name) if answer else None
        for figure in ("running", "waiting", "kv_cache")
    )
    return Engine(
        name,
        pool,
        str(one["node"]),
        str(one["release"]),
        merged_state(tracks),
        merged_state(states),
        sum(in_flight for in_flight, _ in loads) if loads else None,
        sum(slots for _, slots in loads) if loads else None,
        running,
        waiting,
        cache,
    )


def _balancer(name: str, seen: Seen) -> Balancer:
    view = seen.views.get(name)
    if view is None:
        return Balancer(name, False, None, "unknown", None, None, None, None, None, None)
    digest, wanted = view.overview.value, seen.digests.get(name)
    configuration = (
        "unknown" if digest is None or wanted is None else "differs" if digest != wanted else "as the inventory"
    )
    idle = information(view, "Idle_pct")
    return Balancer(
        name,
        True,
        view.holds_address,
        configuration,
        digest,
        view.overview.information.get("Version"),
        information(view, "Uptime_sec"),
        information(view, "CurrConns"),
        information(view, "Maxconn"),
        None if idle is None else idle / 100,
    )
