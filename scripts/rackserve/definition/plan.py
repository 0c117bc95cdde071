"""The resolved plan: what playbooks, templates and scripts read. Plain data, secrets left out."""

from collections.abc import Iterable
from typing import Any

from rackserve.definition import engine_buckets, limits, ports
from rackserve.definition.models import Node
from rackserve.definition.models.pool import Engine, Pool
from rackserve.definition.models.service import Service, Timeouts
from rackserve.definition.queueing import queue_order, waiting_room
from rackserve.definition.raw import BALANCERS, GPU_NODES, GROUPS, MONITORS
from rackserve.definition.read import Definition

ANY = "any"
# Made there by the first render with certificate: lab_ca; it goes with the lab.
LAB_CA = "/var/lib/rackserve-lab/ca/ca.pem"
_AS_DECLARED = (
    *("slos", "timeouts", "ports", "virtual_address", "edge", "routes", "canary"),
    *("scenarios", "retention", "tracing", "prices", "capacity"),
)


def plan(definition: Definition, warnings: Iterable[str] = ()) -> dict[str, Any]:
    """Resolves defaults and references. Expects a definition without problems."""
    service = definition.service
    # Also those that no pool runs: a release is tried before the definition names it in its pool.
    releases = dict(service.releases)
    models = {release.model: service.models[release.model] for release in releases.values()}
    engines = [
        _engine(definition, name, pool, engine) for name, pool in service.pools.items() for engine in pool.engines
    ]
    dumped = service.model_dump(mode="json", exclude={"engine_key", "probe_key"})
    counted = (dumped["tenants"], dumped["lanes"])
    resolved: dict[str, Any] = _whole(
        {
            "name": service.name,
            "stage": service.stage,
            "nodes": {name: _node(definition, name, node) for name, node in definition.nodes.items()},
            "engines": engines,
            "models": {
                name: {**dumped["models"][name], "path_key": f"{name}/{model.revision}"}
                for name, model in sorted(models.items())
            },
            "releases": {
                name: {
                    **dumped["releases"][name],
                    "model_revision": service.models[release.model].revision,
                    "settable_buckets": engine_buckets.settable(release.version),
                }
                for name, release in sorted(releases.items())
            },
            "pools": {
                name: _pool(definition, name, dumped["pools"][name], pool) for name, pool in service.pools.items()
            },
            "lanes": _lanes(dumped["lanes"], service.timeouts),
            "tenants": {
                name: {**dumped["tenants"][name], "key_hashes": [key.sha256 for key in tenant.keys]}
                for name, tenant in service.tenants.items()
            },
            "limits": limits.of_keys(*counted),
            "declared_limits": limits.declared(*counted),
            "message_caps": limits.message_caps(*counted),
            "balancers": list(definition.members(BALANCERS)),
            "monitors": list(definition.members(MONITORS)),
            "gpu_nodes": list(definition.members(GPU_NODES)),
            **{key: dumped[key] for key in _AS_DECLARED},
            "alerts": _alerts(dumped["alerts"]),
            "tls": _tls(dumped["tls"]),
            "warnings": list(warnings),
        }
    )
    return resolved


def _whole(value: Any) -> Any:
    """Numbers without a fraction as integers: templates write them as they stand, and "2.0s" is no time to a daemon."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tls(dumped: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the file on the controller by which the service's own questions trust the certificate."""
    return {**dumped, "trusted_by": dumped["chain"] or LAB_CA} if dumped else None


def _alerts(dumped: dict[str, Any]) -> dict[str, Any]:
    """Addresses of receivers often hold a token, so they stay in the definition's variables."""
    receivers = [{key: value for key, value in receiver.items() if key != "url"} for receiver in dumped["receivers"]]
    return {**{key: value for key, value in dumped.items() if key != "dead_man_url"}, "receivers": receivers}


def slots_per_balancer(slots: int, balancers: int) -> int:
    """Each balancer's part of an engine's slots: rounded down, so that together they never exceed the engine's."""
    return slots // balancers if balancers else 0


def _engine(definition: Definition, pool_name: str, pool: Pool, engine: Engine) -> dict[str, Any]:
    return {
        "name": engine.name,
        "pool": pool_name,
        "node": engine.node,
        "address": definition.nodes[engine.node].address,
        "port": engine.port,
        "device": pool.device,
        "gpus": list(engine.gpus),
        "cpus": engine.cpus,
        "tensor_parallel": pool.tensor_parallel,
        "memory_share": pool.memory_share if engine.memory_share is None else engine.memory_share,
        "slots": pool.slots,
        "release": pool.release,
        "served_names": _served_names(definition.service, pool_name, pool),
        "slo_edges": engine_buckets.thresholds(definition.service.slos, pool_name),
        "histogram_buckets": _buckets(definition.service, pool_name, pool),
    }


def _buckets(service: Service, pool_name: str, pool: Pool) -> dict[str, list[float]]:
    """Empty where its release takes none; then every threshold lies on an edge that it has."""
    settable = engine_buckets.settable(service.releases[pool.release].version)
    return engine_buckets.custom(service.slos, pool_name) if settable else {}


def _served_names(service: Service, pool_name: str, pool: Pool) -> list[str]:
    """Its own names first, then those of requests that routes or an overloaded pool may send here."""
    every = [name for other in service.pools.values() for name in other.names]
    names = [*pool.names]
    for route in service.routes:
        if route.pool == pool_name:
            names += route.names or every
    for other in service.pools.values():
        if any(rule.pool == pool_name for rule in other.overload):
            names += other.names
    return list(dict.fromkeys(names))


def _pool(definition: Definition, name: str, dumped: dict[str, Any], pool: Pool) -> dict[str, Any]:
    timeouts = resolved_timeouts(definition.service.timeouts, pool)
    return {
        **dumped,
        "slots_per_balancer": slots_per_balancer(pool.slots, len(definition.members(BALANCERS))),
        "engines": [engine.name for engine in pool.engines],
        # For an engine of a release that takes them (settable_buckets).
        "histogram_buckets": engine_buckets.custom(definition.service.slos, name),
        "timeouts": timeouts.model_dump(mode="json"),
        "lanes": list(pool.lanes or definition.service.lanes),
        "canary": dumped["canary"] or definition.service.canary.model_dump(mode="json"),
        "waiting_room": _waiting_room(definition.service, name, pool),
    }


def _waiting_room(service: Service, name: str, pool: Pool) -> dict[str, Any]:
    lanes = {lane: body.model_dump(mode="json") for lane, body in service.lanes.items()}
    reserved = {
        tenant: body.reserved_slots_percent
        for tenant, body in service.tenants.items()
        if body.reserved_slots_percent and name in body.pools
    }
    return waiting_room(lanes, pool.lanes or service.lanes, pool.queue.timeout_seconds, reserved)


def resolved_timeouts(timeouts: Timeouts, pool: Pool) -> Timeouts:
    """The service's time limits with what the pool says otherwise."""
    own = {key: value for key, value in pool.timeouts.model_dump().items() if value is not None}
    return timeouts.model_copy(update={"queue_seconds": pool.queue.timeout_seconds, **own})


def _lanes(dumped: dict[str, Any], timeouts: Timeouts) -> dict[str, Any]:
    order = queue_order(dumped)
    return {
        name: {**_lane(lane, timeouts), "queue_class": order[name][0], "queue_offset_ms": order[name][1]}
        for name, lane in dumped.items()
    }


def _lane(dumped: dict[str, Any], timeouts: Timeouts) -> dict[str, Any]:
    return {
        **dumped,
        "generation_timeout_seconds": dumped["generation_timeout_seconds"] or timeouts.generation_seconds,
    }


def _node(definition: Definition, name: str, node: Node) -> dict[str, Any]:
    service = definition.service
    own = [(pool, engine) for pool in service.pools.values() for engine in pool.engines if engine.node == name]
    return {
        "address": node.address,
        "groups": [group for group in GROUPS if name in definition.members(group)],
        "gpus": node.gpus,
        "gpu_memory_gib": node.gpu_memory_gib,
        "memory_gib": node.memory_gib,
        "price": node.price,
        "power_watts": node.power_watts,
        "engines": [engine.name for _, engine in own],
        "models": sorted({service.releases[pool.release].model for pool, _ in own}),
        "listeners": _listeners(definition, name, node),
    }


def _listeners(definition: Definition, name: str, node: Node) -> list[dict[str, Any]]:
    """What listens on a node and who may reach it. Loopback is never filtered, so one server can be everything."""
    service = definition.service
    inner = _addresses(definition, BALANCERS, MONITORS)
    listeners = [_listener("ssh", node.ssh_port, service.admin_networks or (ANY,), "administration")]
    if name in definition.members(BALANCERS):
        listeners += [
            _listener("api", service.ports.api, service.client_networks or (ANY,), "requests of clients"),
            _listener(
                "stats",
                service.ports.stats,
                inner,
                "statistics and metrics of the balancer, for monitors and the other balancers",
            ),
            _listener(
                "traffic", service.ports.traffic, inner, "metrics of what users felt, for monitors and balancers"
            ),
            _listener(
                "peers",
                service.ports.peers,
                _addresses(definition, BALANCERS),
                "what tenants have used, from balancer to balancer",
            ),
        ]
        others = [host for host in definition.members(BALANCERS) if host != name]
        if service.virtual_address is not None and others:
            addresses = [definition.nodes[host].address for host in others]
            listeners.append(_listener("vrrp", 0, addresses, "the virtual address, passed between balancers", "vrrp"))
    if name in definition.members(GPU_NODES):
        balancers = _addresses(definition, BALANCERS)
        listeners += [
            _listener("probe", service.ports.probe, balancers, "agent-checks of the balancers"),
            _listener(
                "probe_metrics", service.ports.probe_metrics, inner, "metrics of the probe, for monitors and balancers"
            ),
        ]
    listeners += _of_monitoring(definition, name)
    for pool_name, pool in service.pools.items():
        listeners += [
            _listener(
                f"engine {engine.name}",
                engine.port,
                inner,
                f"requests of the balancers to pool {pool_name}; metrics for the monitors",
            )
            for engine in pool.engines
            if engine.node == name
        ]
    return listeners


def _of_monitoring(definition: Definition, name: str) -> list[dict[str, Any]]:
    monitors = _addresses(definition, MONITORS)
    used = ports.of_node(definition, name)
    scraped = {
        "prometheus": "Prometheus, for the monitors; operators come through ssh",
        "alertmanager": "Alertmanager, for the monitors; operators come through ssh",
        "node_exporter": "metrics of the node, for the monitors",
    }
    listeners = [_listener(key, used[key], monitors, purpose) for key, purpose in scraped.items() if key in used]
    if port := used.get("alertmanager_peers"):
        others = [address for address in monitors if address != definition.nodes[name].address]
        purpose = "which alerts were told already, from Alertmanager to Alertmanager"
        listeners += [_listener("alertmanager_peers", port, others, purpose, protocol) for protocol in ("tcp", "udp")]
    return listeners


def _listener(name: str, port: int, sources: Iterable[str], purpose: str, protocol: str = "tcp") -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": protocol, "sources": list(sources), "purpose": purpose}


def _addresses(definition: Definition, *groups: str) -> list[str]:
    return list(dict.fromkeys(definition.nodes[host].address for group in groups for host in definition.members(group)))
