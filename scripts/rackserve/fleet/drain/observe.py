"""One look at balancers, engines and a monitor, all at the same time, each with a deadline."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.fleet import prometheus, replies
from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain.fleet import Fleet, Paths
from rackserve.fleet.drain.records import read_records
from rackserve.fleet.drain.sight import Balancer, Engine, Page, Peak, Place, Sight
from rackserve.fleet.errors import FleetError, NonsenseError
from rackserve.fleet.haproxy_files import MAINTENANCE_MAP, SHARES_MAP, TRACKS
from rackserve.fleet.ssh import Host
from rackserve.fleet.workers import Replies, Workers

DEADLINE_SECONDS = 10.0
PEAK_SECONDS = 30.0
_PAGE_SECONDS = 3.0
_STATE = "show servers state engines"
_STAT = "show stat -1 4 -1"
# Prometheus reads every 15 s.
_STEP_SECONDS = 15


def observe(fleet: Fleet, names: Sequence[str], plans: bool = False) -> Sight:
    """Of these engines and the others of their pools. A host that cannot be asked stands in `unreachable`.

    `plans`: with what is needed before anything is done: records of others, and the day's peak.
    """
    engines = fleet.with_pools_of(names)
    with ThreadPoolExecutor(max_workers=2) as both:
        looks = both.submit(on_each, fleet.balancers, lambda host: look(host, fleet.paths[host.name], engines, plans))
        figures = both.submit(peaks_of, fleet, names) if plans else None
        outcome = looks.result()
        said = figures.result() if figures else {}
    unreachable = {name: str(error) for name, error in outcome.failed.items()}
    able = [host for host in fleet.balancers if host.name in outcome.done]
    return Sight(engines, outcome.done, unreachable, _pages(able, {name: engines[name].url for name in names}), said)


def look(host: Host, paths: Paths, engines: Mapping[str, Engine], records: bool) -> Balancer:
    """What one balancer says. Without `records` it names none."""
    workers = Workers(host, paths.socket, paths.master, DEADLINE_SECONDS)
    answers = workers.ask([_STATE, _STAT, f"show map {MAINTENANCE_MAP}", f"show map {SHARES_MAP}"], [_STAT])
    now, found = read_records(host, paths.records, DEADLINE_SECONDS) if records else (0.0, {})
    announced, shares = maintenance_of(answers.current[2]), shares_of(answers.current[3])
    return Balancer(host.name, places(host.name, answers, engines), found, now, announced, answers.unknown, shares)


def _pages(hosts: Sequence[Host], urls: Mapping[str, str]) -> dict[str, Page]:
    """Asked from the first balancer that can; engines say the same to all."""
    failed = ""
    for host in hosts:
        try:
            return look_at(host, urls)
        except FleetError as error:
            failed = str(error)
    return {name: Page(None, error=failed or "no balancer to ask it from") for name in urls}


def places(balancer: str, answers: Replies, engines: Mapping[str, Engine]) -> dict[str, Place]:
    """An engine that this balancer does not know is left out."""
    try:
        wills, servers = replies.wills(answers.current[0]), replies.server_states(answers.current[1])
        old = [replies.server_states(one[0]) for one in answers.old.values()]
    except replies.UnreadableReply as error:
        raise NonsenseError(balancer, f"{_STATE}; {_STAT}", str(error)) from error
    found = {}
    for name, engine in engines.items():
        if name not in wills:
            continue
        will, own = wills[name], _of(servers, engine)
        found[name] = Place(
            will.drained,
            will.maintained,
            will.running,
            any(one.status.startswith(("UP", "no check")) for one in own),
            _streams(own),
            sum(_streams(_of(theirs, engine)) for theirs in old),
        )
    return found


def _of(servers: Iterable[replies.ServerState], engine: Engine) -> list[replies.ServerState]:
    """The engine in the backends that carry requests."""
    backends = {f"pool-{engine.pool}-{track}" for track in TRACKS}
    return [one for one in servers if one.server == engine.name and one.backend in backends]


def _streams(servers: Iterable[replies.ServerState]) -> int:
    return sum(one.current + one.queued for one in servers)


def maintenance_of(reply: str) -> dict[str, int]:
    """Pool or `all` -> planned end. A process from before this map knows of none."""
    try:
        return {key: int(value) for key, value in replies.map_entries(reply).items()}
    except (replies.UnreadableReply, ValueError):
        return {}


def shares_of(reply: str) -> dict[str, str]:
    """Pool -> CANARY/BASELINE. A process from before this map knows of none."""
    try:
        return dict(replies.map_entries(reply))
    except replies.UnreadableReply:
        return {}


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    running: float | None
    waiting: float | None
    refused: bool
    error: str


def look_at(host: Host, urls: Mapping[str, str]) -> dict[str, Page]:
    """Engines' own pages, read from there."""
    asked = {name: {"url": url, "seconds": _PAGE_SECONDS} for name, url in urls.items()}
    said = host.call("engines", {"action": "look", "engines": asked}, DEADLINE_SECONDS)
    try:
        found = {name: _Said.model_validate(one) for name, one in dict(said).items()}
    except (ValidationError, TypeError, ValueError) as error:
        raise NonsenseError(host.name, "engines", str(said)[:200]) from error
    return {
        name: Page(
            None if one.running is None or one.waiting is None else one.running + one.waiting, one.refused, one.error
        )
        for name, one in found.items()
    }


def peaks_of(fleet: Fleet, names: Sequence[str]) -> dict[str, Peak | str]:
    """Of the last day, by pool: the most that ran or waited at a time, as Prometheus saw it every 15 s."""
    pools = fleet.pools_of(names)
    queries = {}
    for pool in pools:
        backends = "|".join(f"pool-{pool}-{track}" for track in TRACKS)
        inside = f'sum(haproxy_backend_current_sessions{{job="haproxy",proxy=~"{backends}"}})[24h:{_STEP_SECONDS}s]'
        queries[f"peak {pool}"] = f"max_over_time({inside})"
        queries[f"known {pool}"] = f"count_over_time({inside}) * {_STEP_SECONDS}"
    port = int(fleet.plan["ports"]["prometheus"])
    answer = prometheus.ask_any(fleet.monitors, port, prometheus.Question(queries), PEAK_SECONDS)
    if isinstance(answer, prometheus.NoMonitor):
        return dict.fromkeys(pools, f"Prometheus could not be asked: {answer}")
    return {pool: _peak(answer, pool) for pool in pools}


def _peak(answer: prometheus.Answer, pool: str) -> Peak | str:
    refused = answer.refused.get(f"peak {pool}") or answer.refused.get(f"known {pool}")
    if refused:
        return f"{answer.monitor}'s Prometheus refuses the question: {refused}"
    figures: list[Any] = [next((one.number for one in answer.of(f"{word} {pool}")), None) for word in ("peak", "known")]
    if None in figures:
        return f"{answer.monitor}'s Prometheus has no figures of the balancers for this pool"
    return Peak(*figures)
