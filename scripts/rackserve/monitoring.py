"""What watches the service, made from its definition as plain data: rules, targets, settings of the log service. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from rackserve import alerts, slo
from rackserve.definition.plan import resolved_timeouts
from rackserve.definition.raw import BALANCERS, MONITORS
from rackserve.definition.read import Definition

LOG_DIRECTORY = "/var/log/rackserve/requests"
_TRACK = "stable"
_GIB = 2**30


def monitoring(definition: Definition) -> dict[str, Any]:
    """{"rules": a Prometheus rule file, "scrapes": its jobs, "traffic": settings of the log service by balancer}."""
    return {
        "rules": {"groups": [*slo.rules(definition)["groups"], *alerts.rules(definition)["groups"]]},
        "scrapes": scrapes(definition),
        "traffic": {name: traffic(definition, name) for name in definition.members(BALANCERS)},
    }


def scrapes(definition: Definition) -> list[dict[str, Any]]:
    """Jobs of Prometheus: every target with the names it has in the definition."""
    ports = definition.service.ports
    balancers, monitors = definition.members(BALANCERS), definition.members(MONITORS)
    return [
        _job("traffic", _nodes(definition, balancers, ports.traffic)),
        _job("haproxy", _nodes(definition, balancers, ports.stats)),
        _job("vllm", _engines(definition)),
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
        # The firewall decides who reaches it.
        "listen": {
            "address": "::" if ":" in definition.nodes[node].address else "0.0.0.0",
            "port": service.ports.traffic,
        },
        "directory": LOG_DIRECTORY,
        "pools": pools,
        "lanes": list(service.lanes),
        "tenants": list(service.tenants),
        "scenarios": list(service.scenarios),
        "edges": {name: list(values) for name, values in slo.edges(service.slos).items()},
        "reply_classes": {name: list(bounds) for name, bounds in slo.reply_classes(definition).items()},
        "retention": _retention(definition),
    }


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
