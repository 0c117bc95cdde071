"""Asks balancers for their request lines and nodes for their journals, all at the same time. What fails is part of the answer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rackserve.fleet.balancers import on_each
from rackserve.fleet.errors import FleetError
from rackserve.fleet.request_lines import JournalLine, Lines, holding, journal
from rackserve.fleet.ssh import Host
from rackserve.traffic_log.history.timeline import (
    UNIT_CHANGES,
    Entry,
    Places,
    in_order,
    mentions,
    of_journal,
    of_request,
    requests_of,
    window,
)
from rackserve.traffic_log.line import Request, parse

HAPROXY_UNIT = "haproxy.service"
ENGINE_UNITS = "vllm@*.service"
# Lines of one request, or of a client that used an id again and again.
_MOST = 200
# Of one balancer: some 100 MB here.
MOST_LINES = 100_000


@dataclass(frozen=True)
class Story:
    """`missing`: node -> why it could not be asked, or not asked for everything."""

    requests: tuple[Request, ...]
    entries: tuple[Entry, ...]
    missing: Mapping[str, str]

    @property
    def found(self) -> bool:
        return bool(self.entries)

    @property
    def exit_code(self) -> int:
        """0: found; 3: not found, and somebody who may know could not be asked; 1: nowhere."""
        return 0 if self.found else 3 if self.missing else 1


@dataclass(frozen=True)
class _OnNode:
    lines: tuple[bytes, ...]
    journal: tuple[JournalLine, ...]
    missing: str


def story(
    request_id: str,
    balancers: Sequence[Host],
    engines: Sequence[Host],
    plan: Mapping[str, Any],
    since: float,
    deadline_seconds: float,
) -> Story:
    """First the balancers, which know when it was; then engines, and what happened around it."""
    ask = partial(_balancer, request_id=request_id, since=since, deadline_seconds=deadline_seconds)
    first = on_each(balancers, ask)
    missing = {name: str(error) for name, error in first.failed.items()}
    missing |= {name: one.missing for name, one in first.done.items() if one.missing}
    lines = [line for one in first.done.values() for line in one.lines]
    lines += [line.text[line.text.find("{") :].encode() for one in first.done.values() for line in one.journal]
    requests = requests_of(request_id, lines)
    places = Places(
        {str(one["name"]): str(one["node"]) for one in plan["engines"]},
        {name: pool["timeouts"]["silence_seconds"] * 1000 for name, pool in plan["pools"].items()},
    )
    entries = [entry for request in requests for entry in of_request(request, places)]
    for name, one in first.done.items():
        entries += of_journal(name, one.journal)
    reached = [host for host in balancers if host.name in first.done]
    for hosts, search in _searches(request_id, requests, reached, engines, plan, since):
        second = on_each(hosts, partial(_journal_of, search=search, deadline_seconds=deadline_seconds))
        missing |= {name: str(error) for name, error in second.failed.items()}
        for name, found in second.done.items():
            entries += of_journal(name, found)
    return Story(requests, in_order(entries), missing)


@dataclass(frozen=True)
class _Search:
    """Of journals. `units`: by node."""

    units: Mapping[str, Sequence[str]]
    pattern: str
    since: float
    until: float | None


def _searches(
    request_id: str,
    requests: Sequence[Request],
    balancers: Sequence[Host],
    engines: Sequence[Host],
    plan: Mapping[str, Any],
    since: float,
) -> list[tuple[Sequence[Host], _Search]]:
    """Of a request that is known: what happened to its pool and its engines around it. Else its id in every engine's journal."""
    if not requests:
        units = {host.name: [ENGINE_UNITS] for host in engines}
        return [(engines, _Search(units, mentions(request_id), since, None))]
    begin, end = window(requests)
    pools = {request.pool for request in requests}
    own: dict[str, list[str]] = {}
    names = []
    for one in plan["engines"]:
        if one["pool"] in pools:
            own.setdefault(str(one["node"]), []).append(f"vllm@{one['name']}.service")
            names.append(re.escape(str(one["name"])))
    events = rf'"event":"[a-z_]+","pool":"(?:{"|".join(map(re.escape, sorted(pools)))})"'
    # Every track says so too; the backend with the checks says why.
    events += rf"|Server engines/(?:{'|'.join(names)}) is " if names else ""
    return [
        (balancers, _Search({host.name: [HAPROXY_UNIT] for host in balancers}, events, begin, end)),
        (
            [host for host in engines if host.name in own],
            _Search(own, f"{mentions(request_id)}|{UNIT_CHANGES}", begin, end),
        ),
    ]


def _balancer(host: Host, request_id: str, since: float, deadline_seconds: float) -> _OnNode:
    """Its files and its journal. One of the two is enough; both failing is a FleetError."""
    lines: tuple[bytes, ...] = ()
    missing = ""
    files_error: FleetError | None = None
    try:
        found = holding(host, f'"{request_id}"', since, _MOST, deadline_seconds)
        lines, missing = found.lines, found.cut
    except FleetError as error:
        if error.exit_code == 3:
            raise
        files_error = error
    try:
        written = journal(host, [HAPROXY_UNIT], since, None, mentions(request_id), _MOST, deadline_seconds)
    except FleetError as error:
        if files_error is not None:
            raise files_error from error
        return _OnNode(lines, (), str(error))
    return _OnNode(lines, written, str(files_error) if files_error else missing)


def _journal_of(host: Host, search: _Search, deadline_seconds: float) -> tuple[JournalLine, ...]:
    return journal(host, search.units[host.name], search.since, search.until, search.pattern, _MOST, deadline_seconds)


@dataclass(frozen=True)
class Requests:
    """Of one pool, read as they are taken, once.

    `cut`: node -> why these are not all of its lines; `failed`: node -> why it could not be asked.
    """

    requests: Iterator[Request]
    cut: Mapping[str, str]
    failed: Mapping[str, FleetError]


def requests_of_pool(pool: str, balancers: Sequence[Host], since: float, deadline_seconds: float) -> Requests:
    def ask(host: Host) -> Lines:
        return holding(host, f'"pool":"{pool}"', since, MOST_LINES, deadline_seconds)

    outcome = on_each(balancers, ask)
    records = (parse(line) for found in outcome.done.values() for line in found.lines)
    requests = (one for one in records if isinstance(one, Request) and one.pool == pool)
    return Requests(requests, {name: one.cut for name, one in outcome.done.items() if one.cut}, outcome.failed)
