"""What watches the service, made from its definition as plain data: rules, targets, settings of its services. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from rackserve import alerts, slo
from rackserve.definition.plan import resolved_timeouts
from rackserve.definition.raw import BALANCERS, GPU_NODES, MONITORS
from rackserve.definition.read import Definition

LOG_DIRECTORY = "/var/log/rackserve/requests"
PROBE_DIRECTORY = "/run/rackserve-engine-probe"
DUMP_DIRECTORY = "/var/lib/rackserve/dumps"
# The most that vLLM computes in one step where a release does not say.
_STEP_FLAG, _STEP_TOKENS = "max-num-batched-tokens", 8192
_TRACK = "stable"
_GIB = 2**30


def monitoring(definition: Definition) -> dict[str, Any]:
    """A Prometheus rule file, its jobs, settings of the log service by balancer, and of the probe by GPU node."""
    return {
        "rules": {"groups": [*slo.rules(definition)["groups"], *alerts.rules(definition)["groups"]]},
        "scrapes": scrapes(definition),
        "traffic": {name: traffic(definition, name) for name in definition.members(BALANCERS)},
        "probe": {name: probe(definition, name) for name in definition.members(GPU_NODES)},
    }


def scrapes(definition: Definition) -> list[dict[str, Any]]:
    """Jobs of Prometheus: every target with the names it has in the definition."""
    ports = definition.service.ports
    balancers, monitors = definition.members(BALANCERS), definition.members(MONITORS)
    return [
        _job("traffic", _nodes(definition, balancers, ports.traffic)),
        _job("haproxy", _nodes(definition, balancers, ports.stats)),
        _job("vllm", _engines(definition)),
        _job("probe", _nodes(definition, definition.members(GPU_NODES), ports.probe_metrics)),
        _job("node", _nodes(definition, definition.nodes, ports.node_exporter)),
        _job("prometheus", _nodes(definition, monitors, ports.prometheus)),
        _job("alertmanager", _nodes(definition, monitors, ports.alertmanager)),
    ]


def _job(name: str, targets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"job": name, "path": "/metrics", "targets": list(targets)}


def _nodes(definition: Definition, names: Iterable[str], port: int) -> Iterable[dict[str, Any]]:
    for name in names:
        yield {"address": _address(definition, name, port), "labels": {"node": name}}


def _engines(definition: Definition) -> Iterable[dict[str, Any]]:
    for pool_name, pool in definition.service.pools.items():
        for engine in pool.engines:
            labels = {"pool": pool_name, "engine": engine.name, "release": pool.release, "track": _TRACK}
            yield {
                "address": _address(definition, engine.node, engine.port),
                "labels": {"node": engine.node, **labels},
            }


def _address(definition: Definition, name: str, port: int) -> str:
    address = definition.nodes[name].address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def traffic(definition: Definition, node: str) -> dict[str, Any]:
    """Settings of the log service on a balancer (rackserve.traffic_log.settings reads them)."""
    service = definition.service
    pools = {
        name: {"silence_seconds": resolved_timeouts(service.timeouts, pool).silence_seconds}
        for name, pool in service.pools.items()
    }
    return {
        "node": node,
        "listen": _listen(definition, node, service.ports.traffic),
        "directory": LOG_DIRECTORY,
        "tls_port": service.ports.api if service.tls else None,
        "pools": pools,
        "lanes": list(service.lanes),
        "tenants": list(service.tenants),
        "scenarios": list(service.scenarios),
        "edges": {name: list(values) for name, values in slo.edges(service.slos).items()},
        "reply_classes": {name: list(bounds) for name, bounds in slo.reply_classes(definition).items()},
        "retention": _retention(definition),
    }


def _listen(definition: Definition, node: str, port: int) -> dict[str, Any]:
    """Everywhere: the firewall decides who reaches it."""
    return {"address": "::" if ":" in definition.nodes[node].address else "0.0.0.0", "port": port}


def probe(definition: Definition, node: str) -> dict[str, Any]:
    """Settings of the probe on a GPU node (rackserve.health.settings reads them)."""
    service = definition.service
    return {
        "node": node,
        "agent": _listen(definition, node, service.ports.probe),
        "metrics": _listen(definition, node, service.ports.probe_metrics),
        "directory": PROBE_DIRECTORY,
        "dumps": DUMP_DIRECTORY if service.retention.crash_dump_days else None,
        "engines": [
            {
                "name": engine.name,
                "pool": name,
                "port": engine.port,
                "model": pool.names[0],
                "token_deadline_seconds": pool.health.token_deadline_seconds,
                "restart_after_seconds": pool.health.restart_after_seconds,
                "step_tokens": _step_tokens(service.releases[pool.release].flags),
            }
            for name, pool in service.pools.items()
            for engine in pool.engines
            if engine.node == node
        ],
    }


def _step_tokens(flags: Mapping[str, Any]) -> int:
    given = flags.get(_STEP_FLAG)
    return given if isinstance(given, int) and given > 0 else _STEP_TOKENS


def _retention(definition: Definition) -> dict[str, Any]:
    """A class of files for each number of days that somebody declared."""
    service = definition.service
    lanes = {name: lane.log_days for name, lane in service.lanes.items() if lane.log_days is not None}
    tenants = {name: tenant.log_days for name, tenant in service.tenants.items() if tenant.log_days is not None}
    days = sorted({*lanes.values(), *tenants.values()})
    return {
        "total_bytes": int(service.retention.log_gib * _GIB),
        "classes": {"default": {"days": service.retention.log_days}, **{_class(own): {"days": own} for own in days}},
        "default": "default",
        "lanes": {name: _class(own) for name, own in lanes.items()},
        "tenants": {name: _class(own) for name, own in tenants.items()},
    }


def _class(days: int) -> str:
    return f"{days}-days"
