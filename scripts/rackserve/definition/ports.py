"""Which ports of service_ports a node listens on. Pure."""

from rackserve.definition.raw import BALANCERS, GPU_NODES, MONITORS
from rackserve.definition.read import Definition

# Key of service_ports -> what it is, as errors say it.
MEANINGS = {
    "api": "the API port",
    "stats": "the port of the statistics",
    "peers": "the port between the balancers",
    "traffic": "the port of the balancers' traffic metrics",
    "probe": "the port of the probes",
    "probe_metrics": "the port of the probes' metrics",
    "prometheus": "the port of Prometheus",
    "alertmanager": "the port of Alertmanager",
    "alertmanager_peers": "the port between the Alertmanagers",
    "node_exporter": "the port of the node exporter",
}
_ON_BALANCERS = ("api", "stats", "peers", "traffic")
_ON_GPU_NODES = ("probe", "probe_metrics")
_ON_MONITORS = ("prometheus", "alertmanager")
_ON_SEVERAL_MONITORS = ("alertmanager_peers",)


def of_node(definition: Definition, name: str) -> dict[str, int]:
    """Key of service_ports -> port, in the order of the keys. Without monitors nothing is there to be scraped."""
    monitors = definition.members(MONITORS)
    keys = [*_ON_BALANCERS] if name in definition.members(BALANCERS) else []
    if name in definition.members(GPU_NODES):
        keys += _ON_GPU_NODES
    if name in monitors:
        keys += [*_ON_MONITORS, *(_ON_SEVERAL_MONITORS if len(monitors) > 1 else ())]
    if monitors:
        keys.append("node_exporter")
    return {key: getattr(definition.service.ports, key) for key in MEANINGS if key in keys}
