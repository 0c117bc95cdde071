"""All operational alerts of a service, as the plain data of a Prometheus rule file (2.53).

A page is for what users feel now and no SLO counts, what hides it, and what stops a host soon; the rest is a ticket.
For errors and slowness the SLOs' own alerts (rackserve.slo) wake somebody.
"""

from typing import Any

from rackserve.alerts import balancers, engines, monitors, nodes, pools, probes
from rackserve.definition.read import Definition

_INTERVAL = "1m"


def rules(definition: Definition) -> dict[str, Any]:
    """{"groups": [...]}, one group for each kind of thing that is watched."""
    kinds = {
        "pools": pools.alerts(definition),
        "engines": engines.alerts(definition),
        "probes": probes.alerts(definition),
        "balancers": balancers.alerts(definition),
        "nodes": nodes.alerts(definition),
        "monitors": monitors.alerts(),
    }
    return {
        "groups": [
            {"name": f"operations-{name}", "interval": _INTERVAL, "rules": found}
            for name, found in kinds.items()
            if found
        ]
    }
