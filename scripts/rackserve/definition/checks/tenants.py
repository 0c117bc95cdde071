"""Checks of lanes, tenants, keys and their limits."""

from collections.abc import Iterator

from rackserve.definition import wording
from rackserve.definition.models.tenant import Limits
from rackserve.definition.problem import Path, Problem
from rackserve.definition.read import Definition


def references_exist(definition: Definition) -> Iterator[Problem]:
    lanes, pools = definition.declared["lanes"], definition.declared["pools"]
    for name, tenant in definition.service.tenants.items():
        base: Path = ("service_tenants", name)
        if tenant.lane not in lanes:
            yield wording.unknown((*base, "lane"), "lane", tenant.lane, lanes)
        for number, pool in enumerate(tenant.pools):
            if pool not in pools:
                yield wording.unknown((*base, "pools", number), "pool", pool, pools)
        for number, key in enumerate(tenant.keys):
            if key.lane is not None and key.lane not in lanes:
                yield wording.unknown((*base, "keys", number, "lane"), "lane", key.lane, lanes)


def lanes_are_accepted(definition: Definition) -> Iterator[Problem]:
    """A lane that no pool accepts is dead; a tenant whose pools refuse its lane or itself gets nothing."""
    service = definition.service
    if definition.declared["pools"] != frozenset(service.pools):
        return
    for lane in service.lanes:
        if not any(not pool.lanes or lane in pool.lanes for pool in service.pools.values()):
            yield Problem(
                ("service_lanes", lane),
                "no pool accepts this lane",
                "a lane that at least one pool accepts",
                f"add {lane} to `lanes` of a pool, or remove the lane",
            )
    for name, tenant in service.tenants.items():
        for number, pool_name in enumerate(tenant.pools):
            pool = service.pools.get(pool_name)
            path: Path = ("service_tenants", name, "pools", number)
            if pool is None:
                continue
            if pool.lanes and tenant.lane not in pool.lanes:
                yield Problem(
                    path,
                    f"pool {pool_name} does not accept lane {tenant.lane}",
                    f"pools that accept {tenant.lane}",
                    f"add {tenant.lane} to `lanes` of the pool, or remove the pool here",
                    f'"{pool_name}"',
                )
            if pool.tenants and name not in pool.tenants:
                yield Problem(
                    path,
                    f"pool {pool_name} is reserved for {', '.join(pool.tenants)}",
                    "pools open to this tenant",
                    f"add {name} to `tenants` of the pool, or remove the pool here",
                    f'"{pool_name}"',
                )


def keys_are_unique(definition: Definition) -> Iterator[Problem]:
    """One key has one owner, and one id names one key of a tenant."""
    owners: dict[str, str] = {}
    for name, tenant in definition.service.tenants.items():
        ids: set[str] = set()
        for number, key in enumerate(tenant.keys):
            path: Path = ("service_tenants", name, "keys", number)
            owner = f"{name}/{key.id}"
            if key.sha256 in owners:
                yield Problem(
                    (*path, "sha256"),
                    f"the key {owner} has the hash of {owners[key.sha256]}",
                    "each key hash once",
                    "make a new key for one of them",
                    "(hidden)",
                )
            owners.setdefault(key.sha256, owner)
            if key.id in ids:
                yield Problem(
                    (*path, "id"),
                    f"stands in the keys of {name} twice",
                    "each id once in a tenant",
                    "choose another id",
                    f'"{key.id}"',
                )
            ids.add(key.id)
        if not tenant.keys:
            yield Problem(
                ("service_tenants", name, "keys"),
                f"{name} has no key, so it can send nothing",
                remedy="add a key, or remove the tenant",
                severity="warning",
            )


def limits_fit(definition: Definition) -> Iterator[Problem]:
    """default_max_tokens within max_tokens; a key never above its tenant."""
    for name, lane in definition.service.lanes.items():
        yield from _one(lane.limits, ("service_lanes", name, "limits"))
    for name, tenant in definition.service.tenants.items():
        yield from _one(tenant.limits, ("service_tenants", name, "limits"))
        for number, key in enumerate(tenant.keys):
            path: Path = ("service_tenants", name, "keys", number, "limits")
            yield from _one(key.limits, path)
            for field in Limits.model_fields:
                mine, outer = getattr(key.limits, field), getattr(tenant.limits, field)
                if isinstance(mine, int) and isinstance(outer, int) and mine > outer:
                    yield Problem(
                        (*path, field),
                        f"is above the tenant's own limit of {outer}",
                        f"up to {outer}",
                        "lower it, or raise the tenant's",
                        str(mine),
                    )


def _one(limits: Limits, path: Path) -> Iterator[Problem]:
    if (
        limits.max_tokens is not None
        and limits.default_max_tokens is not None
        and limits.default_max_tokens > limits.max_tokens
    ):
        yield Problem(
            (*path, "default_max_tokens"),
            f"is above max_tokens ({limits.max_tokens})",
            f"up to {limits.max_tokens}",
            "lower it, or raise max_tokens",
            str(limits.default_max_tokens),
        )
