"""The role haproxy's variables for one balancer, without Ansible: what site.yml would hand to it."""

from typing import Any

import yaml

from rackserve.definition.load import REPOSITORY, Inventory
from rackserve.fleet.certificates import pem_for


def variables(inventory: Inventory, node: str) -> dict[str, Any]:
    """The role's defaults, what the inventory says about the node, and what site.yml hands to the role."""
    defaults = yaml.safe_load((REPOSITORY / "roles/haproxy/defaults/main.yml").read_text())
    host = inventory.hosts[node]
    own = {name: host[name] for name in host if name.startswith("haproxy_")}
    own.setdefault("haproxy_tls_pem", pem_for(inventory.plan, host))
    return {**defaults, **own, "haproxy_plan": inventory.plan, "haproxy_engine_key": host["service_engine_key"]}
