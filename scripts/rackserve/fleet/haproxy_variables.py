"""The role haproxy's variables for one balancer, without Ansible: what site.yml would hand to it."""

from collections.abc import Mapping
from typing import Any

import yaml

from rackserve.definition.load import REPOSITORY, Inventory
from rackserve.fleet.certificates import pem_for

# Where site.yml lets HAProxy send request lines, as HAProxy sees it; the role's default is for a balancer alone.
REQUEST_LOG = "/rackserve/requests.sock"


def variables(inventory: Inventory, node: str) -> dict[str, Any]:
    """The role's defaults, what the inventory says about the node, and what site.yml hands to the role."""
    defaults = yaml.safe_load((REPOSITORY / "roles/haproxy/defaults/main.yml").read_text())
    host = inventory.hosts[node]
    own = {name: host[name] for name in host if name.startswith("haproxy_")}
    own.setdefault("haproxy_tls_pem", pem_for(inventory.plan, host))
    return {**defaults, **own, **handed_over(inventory.plan, host["service_engine_key"])}


def handed_over(plan: Mapping[str, Any], engine_key: str) -> dict[str, Any]:
    """What site.yml gives to the role, whatever the inventory says."""
    return {"haproxy_plan": plan, "haproxy_engine_key": engine_key, "haproxy_request_log": REQUEST_LOG}
