"""Asks balancers and monitors, all at the same time and each with a deadline, so that one that hangs delays nobody else."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from rackserve.definition.load import Inventory
from rackserve.fleet import prometheus
from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain.records import read_records
from rackserve.fleet.errors import FleetError
from rackserve.fleet.haproxy_files import MAINTENANCE_MAP, RenderError, render
from rackserve.fleet.haproxy_variables import variables
from rackserve.fleet.keys_apply import CONFIGURATION_MAP
from rackserve.fleet.paths import RECORDS
from rackserve.fleet.runtime import SOCKET, Runtime
from rackserve.fleet.ssh import Host, host_of
from rackserve.fleet.status.assemble import Seen, snapshot
from rackserve.fleet.status.queries import QUESTION
from rackserve.fleet.status.snapshot import Snapshot
from rackserve.fleet.status.view import View

DEADLINE_SECONDS = 5.0
_CONNECT_SECONDS = 3


@dataclass(frozen=True)
class Fleet:
    """Whom to ask. `sockets` and `digests` by balancer, from the inventory; `unrendered`: why they are missing."""

    plan: Mapping[str, Any]
    balancers: Sequence[Host]
    monitors: Sequence[Host]
    sockets: Mapping[str, str]
    digests: Mapping[str, str]
    unrendered: str | None = None


def fleet(inventory: Inventory) -> Fleet:
    """Renders the balancers' configurations to know their digests. Raises InventoryError for a broken definition."""
    plan = inventory.plan
    sockets, digests, unrendered = {}, {}, None
    try:
        for name in plan["balancers"]:
            wanted = variables(inventory, name)
            sockets[name] = f"{wanted['haproxy_runtime_directory']}/admin.sock"
            digests[name] = render(wanted, name).digest
    except RenderError as error:
        # Whoever is woken at night sees the rest all the same.
        unrendered = str(error)
    balancers = [host_of(name, inventory.hosts[name], _CONNECT_SECONDS) for name in plan["balancers"]]
    monitors = prometheus.monitors_of(plan, inventory.hosts, _CONNECT_SECONDS)
    return Fleet(plan, balancers, monitors, sockets, digests, unrendered)


def observe(
    whom: Fleet, deadline_seconds: float = DEADLINE_SECONDS, clock: Callable[[], float] = time.time
) -> Snapshot:
    """Never raises for a host that cannot be asked: what is missing stands in the snapshot."""
    address = whom.plan.get("virtual_address")
    held = str(address["address"]) if address else None
    with ThreadPoolExecutor(max_workers=2) as both:
        views = both.submit(
            on_each,
            whom.balancers,
            lambda host: _view(host, whom.sockets.get(host.name, SOCKET), held, deadline_seconds),
        )
        figures = both.submit(
            prometheus.ask_any, whom.monitors, whom.plan["ports"]["prometheus"], QUESTION, deadline_seconds
        )
        outcome, said = views.result(), figures.result()
    return snapshot(Seen(whom.plan, clock(), outcome.done, outcome.failed, said, whom.digests, whom.unrendered))


def _view(host: Host, socket: str, address: str | None, deadline_seconds: float) -> View:
    """One deadline for all questions."""
    ends = time.monotonic() + deadline_seconds
    overview = Runtime(host, socket, deadline_seconds).overview(CONFIGURATION_MAP, "digest", MAINTENANCE_MAP)
    view = _with_records(View(host.name, overview), host, max(ends - time.monotonic(), 0.1))
    if address is None:
        return view
    left = max(ends - time.monotonic(), 0.1)
    try:
        held = host.call("addresses", {"addresses": [address], "seconds": left}, left)
    except FleetError as error:
        return replace(view, address_error=str(error))
    return replace(view, holds_address=address in held)


def _with_records(view: View, host: Host, left: float) -> View:
    try:
        now, records = read_records(host, RECORDS, left)
    except FleetError as error:
        return replace(view, records_error=str(error))
    return replace(view, now=now, records=records)
