"""One look at everything a run hangs on: balancers, engines, figures; all at the same time, each with a deadline."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.moves import observe as moves
from rackserve.canary.moves.share import Share as Given
from rackserve.canary.moves.share import shown
from rackserve.canary.moves.sight import Place
from rackserve.canary.run.world import BalancerSeen, EngineSeen, Seen, Share, Source, Track
from rackserve.canary.world.figures import NAMES, NoFigures, source
from rackserve.canary.world.site import Site
from rackserve.fleet.balancers import Outcome, on_each
from rackserve.fleet.drain import observe as drains
from rackserve.fleet.drain.sight import STALE_SECONDS, Balancer
from rackserve.fleet.errors import NonsenseError
from rackserve.fleet.ssh import Host
from rackserve.fleet.tracks import TRACKS

PAGE_SECONDS, STARTS_SECONDS = 6.0, 6.0


class _Start(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str | None
    started: str
    error: str


def observe(site: Site) -> Seen:
    """Does not raise for who cannot be asked: it stands in what is returned."""
    with ThreadPoolExecutor(max_workers=4) as all_of_them:
        splits = all_of_them.submit(on_each, site.fleet.balancers, lambda host: moves.look(site.split, host))
        outs = all_of_them.submit(on_each, site.fleet.balancers, lambda host: _look(site, host))
        sums = all_of_them.submit(on_each, site.fleet.balancers, lambda host: figures(site, host))
        starts = all_of_them.submit(engines, site)
        return seen(site, splits.result(), outs.result(), sums.result(), starts.result())


def seen(
    site: Site,
    splits: Outcome[Place],
    outs: Outcome[Balancer],
    sums: Outcome[Source | NoFigures],
    starts: Mapping[str, EngineSeen],
) -> Seen:
    """Puts it together. Pure."""
    unreachable = {name: str(error) for name, error in {**splits.failed, **outs.failed}.items()}
    balancers = {}
    for name, place in splits.done.items():
        if name in unreachable:
            continue
        if said := unsaid(place):
            unreachable[name] = said
            continue
        balancers[name] = _balancer(site.split.engines, place, outs.done[name])
    missing = {name: str(error) for name, error in sums.failed.items()}
    missing |= {name: str(one) for name, one in sums.done.items() if isinstance(one, NoFigures)}
    totals = {name: one for name, one in sums.done.items() if isinstance(one, Source)}
    no_figures = "; ".join(f"balancer {name}: {why}" for name, why in missing.items())
    if not totals and not missing:
        no_figures = "there is no balancer"
    return Seen(balancers, starts, unreachable, None if no_figures else totals, no_figures)


def unsaid(place: Place) -> str:
    """Why a balancer that answers could not say what is needed; empty: it did."""
    for error in (place.live_error, place.file_error):
        if error:
            return error
    for where, raw, share in (("running HAProxy", place.live, place.share), ("file", place.file, place.filed)):
        if share is None or share_of(share) is None:
            return f"its {where} says {shown(raw)}. Somebody wrote it by hand: scripts/rollback takes it back"
    return ""


def share_of(given: Given) -> Share | None:
    try:
        return Share(canary=given.canary, baseline=given.baseline)
    except ValidationError:
        return None


def _balancer(names: Sequence[str], place: Place, out: Balancer) -> BalancerSeen:
    live, filed = place.share, place.filed
    assert live is not None, "unsaid() has told it"
    assert filed is not None, "unsaid() has told it"
    places = {name: out.engines[name] for name in names if name in out.engines}
    return BalancerSeen(
        live=Share(canary=live.canary, baseline=live.baseline),
        file=Share(canary=filed.canary, baseline=filed.baseline),
        tracks={name: _track(place, name) for name in names},
        drained=frozenset(name for name, one in places.items() if one.out),
        up=frozenset(name for name, one in places.items() if one.running),
        busy=busy(names, place, out),
    )


def _track(place: Place, engine: str) -> Track | None:
    """None: in no track, or in several, which gives it twice its slots."""
    own = place.tracks_of(engine)
    found: dict[str, Track] = {"stable": "stable", "baseline": "baseline", "canary": "canary"}
    return found[own[0]] if len(own) == 1 and own[0] in TRACKS else None


def busy(names: Sequence[str], place: Place, out: Balancer) -> str:
    """Who else is at work on the pool there."""
    found = [f"the map's file has a line that is no share: {line[:80]!r}" for line in place.broken]
    found += [
        f"{one.by} is at work on {name} ({one.step})"
        for name, one in out.records.items()
        if name in names and one.holder and out.now - one.beat < STALE_SECONDS
    ]
    return "; ".join(found)


def _look(site: Site, host: Host) -> Balancer:
    engines_of_pool = {name: site.fleet.engines[name] for name in site.split.engines}
    return drains.look(host, site.fleet.paths[host.name], engines_of_pool, records=True)


def figures(site: Site, host: Host) -> Source | NoFigures:
    """Raises FleetError."""
    asked = {"url": site.pages[host.name], "seconds": PAGE_SECONDS * 0.7, "pool": site.pool, "names": list(NAMES)}
    said = host.call("traffic_page", asked, PAGE_SECONDS)
    try:
        return source(str(said["page"]), site.edges)
    except NoFigures as error:
        return error
    except (KeyError, TypeError, ValueError) as error:
        raise NonsenseError(host.name, "traffic_page", repr(said)[:200]) from error


def engines(site: Site, only: Sequence[str] | None = None) -> dict[str, EngineSeen]:
    """What each engine was started with, asked on its node."""
    names = list(site.split.engines if only is None else only)
    by_node: dict[str, list[str]] = {}
    for name in names:
        by_node.setdefault(site.fleet.engines[name].node, []).append(name)
    outcome = on_each([site.nodes[node] for node in by_node], lambda host: _starts(site, host, by_node[host.name]))
    found = {name: one for said in outcome.done.values() for name, one in said.items()}
    for node, error in outcome.failed.items():
        found |= {name: EngineSeen(None, error=f"its node cannot be asked: {error}") for name in by_node[node]}
    return {name: found[name] for name in names}


def _starts(site: Site, host: Host, names: Sequence[str]) -> dict[str, EngineSeen]:
    said: Any = host.call("engine_starts", {"root": site.starts, "engines": list(names)}, STARTS_SECONDS)
    try:
        starts = {name: _Start.model_validate(said[name]) for name in names}
    except (ValidationError, KeyError, TypeError) as error:
        raise NonsenseError(host.name, "engine_starts", repr(said)[:200]) from error
    return {name: EngineSeen(one.release, one.started, one.error) for name, one in starts.items()}
