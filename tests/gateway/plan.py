"""A resolved plan for the gateway tests: pools of every kind on stub engines, tenants of every kind."""

import hashlib
import os
from typing import Any

from rackserve.definition import limits
from rackserve.definition.queueing import queue_order, waiting_room

# Written here on purpose: these keys open nothing but the stub engines of this folder.
KEYS = {
    "demo": "sk-gateway-demo-0001",
    "batch": "sk-gateway-batch-0001",
    "narrow": "sk-gateway-narrow-0001",
    "probe": "sk-gateway-probe-0001",
}
ENGINE_KEY = "engine-key-of-the-gateway-tests"
NODE = "gw1"
# Several runs at a time on one node: each takes a slot of its own, with its own unit, directories and ports.
SLOT = int(os.environ.get("RACKSERVE_GATEWAY_SLOT", "0"))
UNIT = f"rackserve-gateway-{SLOT}"
API_PORT, PRIVATE_PORT, PEERS_PORT, FIRST_PORT = 18080 + SLOT, 18404 + SLOT, 18600 + SLOT, 19000 + 200 * SLOT
PROBE_PORT = 18700 + SLOT
TIMEOUTS = {
    "connect_seconds": 0.5,
    "queue_seconds": 10,
    "silence_seconds": 1.0,
    "generation_seconds": 20,
    "client_seconds": 25,
}


def tenant(name: str, lane: str, pools: list[str]) -> dict[str, Any]:
    sha256 = hashlib.sha256(KEYS[name].encode()).hexdigest()
    return {
        "lane": lane,
        "pools": pools,
        "keys": [{"id": f"{name}-1", "sha256": sha256, "lane": None, "expires": None, "limits": {}}],
        "key_hashes": [sha256],
        "limits": {},
    }


def pool(names: list[str], engines: list[str], slots: int = 8, **changes: Any) -> dict[str, Any]:
    queue = {"max_requests": 64, "timeout_seconds": 10} | changes.pop("queue", {})
    timeouts = TIMEOUTS | {"queue_seconds": queue["timeout_seconds"]} | changes.pop("timeouts", {})
    return {
        "names": names,
        "release": "stub-1",
        "slots": slots,
        "slots_per_balancer": slots,
        "queue": queue,
        "balance": {"kind": "least_loaded"},
        "engines": engines,
        "timeouts": timeouts,
        "lanes": ["interactive", "batch", "internal"],
        "tenants": [],
        "health": {"interval_seconds": 0.4, "fall": 2, "rise": 2, "slow_start_seconds": 0},
        # Breakers that no test meets by accident; those that want one set it.
        "breaker": {"errors": 1000, "window_seconds": 10, "open_seconds": 15},
        "retries": {"attempts": 2, "budget_percent": 100},
        "overload": [],
        **changes,
    }


def lane(priority: int, **changes: Any) -> dict[str, Any]:
    return {"priority": priority, "generation_timeout_seconds": 20, **changes}


def default_lanes() -> dict[str, dict[str, Any]]:
    return {"interactive": lane(10), "batch": lane(200), "internal": lane(100)}


def plan(
    address: str,
    first_port: int,
    pools: dict[str, dict[str, Any]] | None = None,
    lanes: dict[str, dict[str, Any]] | None = None,
    reserved: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Engines listen on `address` from `first_port` on, in the order in which the pools name them."""
    pools = pools if pools is not None else default_pools()
    engines = [(pool_name, name) for pool_name, body in pools.items() for name in body["engines"]]
    everything = sorted(pools)
    lanes = lanes if lanes is not None else default_lanes()
    order = queue_order(lanes)
    for name, (queue_class, offset) in order.items():
        lanes[name] |= {"queue_class": queue_class, "queue_offset_ms": offset}
    for body in pools.values():
        body["waiting_room"] = waiting_room(lanes, body["lanes"], body["queue"]["timeout_seconds"], reserved or {})
    return {
        "name": "gateway",
        "stage": "test",
        "balancers": [NODE],
        "engines": [
            {"name": name, "pool": pool_name, "node": "host", "address": address, "port": first_port + number}
            for number, (pool_name, name) in enumerate(engines)
        ],
        "pools": pools,
        "lanes": lanes,
        "tenants": {
            "demo": tenant("demo", "interactive", everything),
            "batch": tenant("batch", "batch", everything),
            "narrow": tenant("narrow", "interactive", everything[:1]),
            "probe": tenant("probe", "internal", everything),
        },
        "routes": [],
        "timeouts": TIMEOUTS,
        "edge": {"header_seconds": 2, "body_seconds": 2, "body_bytes": 262144, "header_bytes": 16384},
        "ports": {"api": API_PORT, "stats": PRIVATE_PORT, "peers": PEERS_PORT},
    }


def default_pools() -> dict[str, dict[str, Any]]:
    """`duo` is the ordinary pool; the others each make one behaviour visible in little time."""
    return {
        "duo": pool(["duo", "chat"], ["duo-1", "duo-2"]),
        # One slot and two places: queueing can be watched request by request.
        "narrow": pool(["narrow"], ["narrow-1"], slots=1, queue={"max_requests": 2, "timeout_seconds": 1.5}),
        # Refuses at once.
        "unqueued": pool(["unqueued"], ["unqueued-1"], slots=1, queue={"max_requests": 0, "timeout_seconds": 1}),
        "wide": pool(["wide"], ["wide-1", "wide-2"], slots=4, queue={"max_requests": 200, "timeout_seconds": 10}),
        "many": pool(["many"], ["many-1", "many-2"], slots=200),
        "hashed": pool(
            ["hashed"],
            ["hashed-1", "hashed-2", "hashed-3"],
            balance={"kind": "prefix_hash", "key": "first_message", "header": None, "load_bound_percent": 150},
        ),
    }


def limit(plan: dict[str, Any], tenant: str, key: dict[str, Any] | None = None, **tenants: Any) -> dict[str, Any]:
    """Gives a tenant, and its first key, limits; resolved as the definition does it."""
    plan["tenants"][tenant]["limits"] = tenants
    plan["tenants"][tenant]["keys"][0]["limits"] = key or {}
    everyone = (plan["tenants"], plan["lanes"])
    return plan | {
        "limits": limits.of_keys(*everyone),
        "declared_limits": limits.declared(*everyone),
        "message_caps": limits.message_caps(*everyone),
    }
