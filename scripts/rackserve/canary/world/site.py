"""What a run's world is made of: whom to ask and where, from the inventory. Raises for what an operator can mend; no I/O besides."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackserve.canary.moves.split import Split
from rackserve.canary.world.figures import Edges
from rackserve.canary.world.promises import edges
from rackserve.definition.load import Inventory
from rackserve.definition.models.canary import Canary
from rackserve.fleet.drain.fleet import CONNECT_SECONDS, Fleet, fleet_of
from rackserve.fleet.ssh import Host, host_of

STARTS = "/run/rackserve"


class Unknown(Exception):
    """Nothing has that name. Says which there are. `exit_code`: of the command."""

    exit_code = 2


@dataclass(frozen=True)
class Access:
    """How Ansible is given the same inventory, for a playbook."""

    inventory: Path
    vault_ids: tuple[str, ...] = ()
    vault_files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Site:
    """One pool of one fleet. `nodes`: node -> how it is reached. `pages`: balancer -> its log service's page, as it is reached there.
    `probe_key`: the rack's own. `lock`: a file that only one playbook of this pool holds."""

    pool: str
    fleet: Fleet
    split: Split
    nodes: Mapping[str, Host]
    pages: Mapping[str, str]
    edges: Edges
    canary: Canary
    probe_key: str
    access: Access
    lock: Path
    starts: str = STARTS
    certificates: ssl.SSLContext | None = None
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def plan(self) -> Mapping[str, Any]:
        return self.fleet.plan

    def release(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.plan["releases"][name]
        return found

    def model(self, release: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.plan["models"][self.release(release)["model"]]
        return found

    def served_name(self, engine: str) -> str:
        return str(self.engines[engine]["served_names"][0])


def site_of(inventory: Inventory, pool: str, access: Access, lock: Path) -> Site:
    """Raises Unknown, InventoryError for a broken definition, OSError where the balancers' authority cannot be read."""
    plan = inventory.plan
    known(plan["pools"], pool, "pool")
    fleet = fleet_of(inventory)
    engines = {str(one["name"]): one for one in plan["engines"] if one["pool"] == pool}
    nodes = {
        str(one["node"]): host_of(one["node"], inventory.hosts[one["node"]], CONNECT_SECONDS)
        for one in engines.values()
    }
    pages = {name: _page(plan, name) for name in plan["balancers"]}
    keys = [str(inventory.hosts[name]["service_probe_key"]) for name in plan["balancers"]]
    return Site(
        pool=pool,
        fleet=fleet,
        split=Split(pool, tuple(engines), fleet.balancers, fleet.paths),
        nodes=nodes,
        pages=pages,
        edges=edges(plan, pool),
        canary=Canary.model_validate_json(json.dumps(plan["pools"][pool]["canary"])),
        probe_key=keys[0] if keys else "",
        access=access,
        lock=lock,
        certificates=trusting(plan),
        engines=engines,
    )


def known(names: Mapping[str, Any], name: str, what: str) -> None:
    """Raises Unknown."""
    if name not in names:
        raise Unknown(
            f"{name!r} is no {what} of the definition. There {'is' if len(names) == 1 else 'are'}: {', '.join(names)}."
        )


def trusting(plan: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Who may vouch for a balancer that is reached through ssh, so under another name than its certificate's. None: no TLS."""
    if not plan.get("tls"):
        return None
    trusted = str(plan["tls"]["trusted_by"])
    context = ssl.create_default_context(cafile=trusted if Path(trusted).exists() else None)
    context.check_hostname = False
    return context


def _page(plan: Mapping[str, Any], balancer: str) -> str:
    host = "[::1]" if ":" in str(plan["nodes"][balancer]["address"]) else "127.0.0.1"
    return f"http://{host}:{plan['ports']['traffic']}/metrics"
