"""Whom to ask and where, from the inventory; what an operator's word names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackserve.definition.load import Inventory
from rackserve.fleet.drain.sight import Engine
from rackserve.fleet.haproxy_variables import variables
from rackserve.fleet.paths import Paths as Paths
from rackserve.fleet.paths import paths_of
from rackserve.fleet.prometheus import monitors_of
from rackserve.fleet.ssh import Host, host_of

CONNECT_SECONDS = 5


class UnknownTarget(Exception):
    """No node and no engine has that name."""


@dataclass(frozen=True)
class Fleet:
    """`key`: what engines demand of whoever asks them."""

    plan: Mapping[str, Any]
    engines: Mapping[str, Engine]
    balancers: Sequence[Host]
    monitors: Sequence[Host]
    paths: Mapping[str, Paths]
    key: str

    def pools_of(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.engines[name].pool for name in names))

    def with_pools_of(self, names: Sequence[str]) -> dict[str, Engine]:
        """The engines and all others of their pools: whoever has to carry the rest."""
        pools = self.pools_of(names)
        return {name: one for name, one in self.engines.items() if one.pool in pools}


def fleet_of(inventory: Inventory) -> Fleet:
    """Raises InventoryError for a broken definition."""
    plan = inventory.plan
    names = plan["balancers"]
    return Fleet(
        plan,
        engines_of(plan),
        [host_of(name, inventory.hosts[name], CONNECT_SECONDS) for name in names],
        monitors_of(plan, inventory.hosts, CONNECT_SECONDS),
        {name: paths_of(variables(inventory, name)) for name in names},
        str(next((inventory.hosts[name]["service_engine_key"] for name in names), "")),
    )


def engines_of(plan: Mapping[str, Any]) -> dict[str, Engine]:
    balancers = max(len(plan["balancers"]), 1)
    found = {}
    for one in plan["engines"]:
        address = str(one["address"])
        host = f"[{address}]" if ":" in address else address
        slots = int(plan["pools"][one["pool"]]["slots_per_balancer"]) * balancers
        name = str(one["name"])
        found[name] = Engine(name, str(one["pool"]), str(one["node"]), f"http://{host}:{one['port']}", slots)
    return found


def named(fleet: Fleet, word: str) -> tuple[str, ...]:
    """All engines of a node, or the engine of that name. Raises UnknownTarget with the names there are."""
    engines = fleet.engines
    found = tuple(one.name for one in engines.values() if one.node == word) or (word,) * (word in engines)
    if not found:
        nodes = ", ".join(dict.fromkeys(one.node for one in engines.values()))
        raise UnknownTarget(
            f"{word!r} is no node with engines and no engine. Nodes: {nodes}. Engines: {', '.join(engines)}."
        )
    return found
