"""The limits in effect: what a key, its tenant and its lane say together. Works on plain data, as the plan holds it."""

from collections.abc import Iterable, Mapping
from typing import Any

# Counted at two levels, each with its own number.
COUNTED = ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "parallel_streams")
# Caps on one request: the lower of the two levels holds.
CAPS = ("prompt_bytes", "prompt_tokens", "messages", "parallel_generations", "max_tokens")


def of_tenant(tenant: Mapping[str, Any], lanes: Mapping[str, Any]) -> dict[str, Any]:
    """The tenant's own limits, and its lane's where it sets none."""
    own = {name: value for name, value in tenant["limits"].items() if value is not None}
    return {**(lanes[tenant["lane"]].get("limits") or {}), **own}


def of_keys(tenants: Mapping[str, Any], lanes: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Every number of each limited key by TENANT/KEY; 0 stands for no limit. Keys without limits are left out."""
    found = {}
    for name, tenant in tenants.items():
        outer = of_tenant(tenant, lanes)
        for key in tenant["keys"]:
            numbers = _of_key(key["limits"], outer)
            if any(numbers.values()):
                found[f"{name}/{key['id']}"] = numbers
    return found


def declared(tenants: Mapping[str, Any], lanes: Mapping[str, Any]) -> list[str]:
    """Which numbers occur at all: the balancer has rules for these only. Independent of which keys there are today."""
    every: list[Mapping[str, int]] = list(of_keys(tenants, lanes).values())
    every += [_of_key({}, of_tenant(tenant, lanes)) for tenant in tenants.values()]
    return sorted({name for numbers in every for name, number in numbers.items() if number})


def message_caps(tenants: Mapping[str, Any], lanes: Mapping[str, Any]) -> list[int]:
    """Each cap on messages that occurs."""
    every = [*of_keys(tenants, lanes).values(), *(_of_key({}, of_tenant(tenant, lanes)) for tenant in tenants.values())]
    return sorted({numbers["messages"] for numbers in every} - {0})


def _of_key(own: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[str, int]:
    numbers = {f"key_{name}": own.get(name) or 0 for name in COUNTED}
    numbers |= {f"tenant_{name}": outer.get(name) or 0 for name in COUNTED}
    numbers |= {name: _lower(own.get(name), outer.get(name)) for name in CAPS}
    # Without a default, a request that does not say max_tokens would evade the cap.
    default = own.get("default_max_tokens") or outer.get("default_max_tokens") or None
    numbers["default_max_tokens"] = _lower(default, numbers["max_tokens"] or None)
    how = own.get("over_cap") or outer.get("over_cap") or "refuse"
    numbers["clamp"] = int(how == "clamp" and bool(numbers["max_tokens"]))
    return numbers


def _lower(*values: int | None) -> int:
    given: Iterable[int] = [value for value in values if value is not None]
    return min(given, default=0)
