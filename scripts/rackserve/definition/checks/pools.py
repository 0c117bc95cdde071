"""Checks of pools against releases, models, lanes, tenants and balancers."""

from collections.abc import Iterator

from rackserve.definition import wording
from rackserve.definition.plan import slots_per_balancer
from rackserve.definition.problem import Path, Problem, count
from rackserve.definition.raw import BALANCERS
from rackserve.definition.read import Definition


def releases_exist(definition: Definition) -> Iterator[Problem]:
    known = definition.declared["releases"]
    for name, pool in definition.service.pools.items():
        if pool.release not in known:
            yield wording.unknown(("service_pools", name, "release"), "release", pool.release, known)


def models_exist(definition: Definition) -> Iterator[Problem]:
    known = definition.declared["models"]
    for name, release in definition.service.releases.items():
        if release.model not in known:
            yield wording.unknown(("service_releases", name, "model"), "model", release.model, known)


def names_are_unique(definition: Definition) -> Iterator[Problem]:
    """A model name leads to one pool; service_routes is the way to send some of its requests elsewhere."""
    seen: dict[str, str] = {}
    for name, pool in definition.service.pools.items():
        for number, served in enumerate(pool.names):
            path: Path = ("service_pools", name, "names", number)
            first = seen.get(served)
            if first == name:
                yield Problem(path, "stands in this list twice", "each name once", "remove one of them", f'"{served}"')
            elif first is not None:
                yield Problem(
                    path,
                    f"is also a name of pool {first}",
                    "each model name in one pool",
                    "remove it from one pool; to split its requests use service_routes",
                    f'"{served}"',
                )
            seen.setdefault(served, name)


def none_is_called_all(definition: Definition) -> Iterator[Problem]:
    """It is the word for every pool, where maintenance is announced."""
    if "all" in definition.service.pools:
        yield Problem(
            ("service_pools", "all"),
            "is the word for all pools (scripts/maintenance on all)",
            "any other name",
            "give the pool another name",
        )


def references_exist(definition: Definition) -> Iterator[Problem]:
    """Lanes and tenants that a pool names, pools that its overload rules name."""
    for name, pool in definition.service.pools.items():
        base: Path = ("service_pools", name)
        for number, lane in enumerate(pool.lanes):
            if lane not in definition.declared["lanes"]:
                yield wording.unknown((*base, "lanes", number), "lane", lane, definition.declared["lanes"])
        for number, tenant in enumerate(pool.tenants):
            if tenant not in definition.declared["tenants"]:
                yield wording.unknown((*base, "tenants", number), "tenant", tenant, definition.declared["tenants"])
        for number, rule in enumerate(pool.overload):
            path: Path = (*base, "overload", number)
            if rule.pool == name:
                yield Problem(
                    (*path, "pool"), "is the pool itself", "another pool", "name the pool that takes over", f'"{name}"'
                )
            elif rule.pool is not None and rule.pool not in definition.declared["pools"]:
                yield wording.unknown((*path, "pool"), "pool", rule.pool, definition.declared["pools"])
            for index, lane in enumerate(rule.lanes):
                if lane not in definition.declared["lanes"]:
                    yield wording.unknown((*path, "lanes", index), "lane", lane, definition.declared["lanes"])


def slots_reach_every_balancer(definition: Definition) -> Iterator[Problem]:
    """Slots are divided over the balancers; with fewer slots than balancers one of them could send nothing."""
    balancers = len(definition.members(BALANCERS))
    if not balancers:
        return
    for name, pool in definition.service.pools.items():
        per_balancer = slots_per_balancer(pool.slots, balancers)
        path: Path = ("service_pools", name, "slots")
        if per_balancer == 0:
            yield Problem(
                path,
                f"{count(pool.slots, 'slot')} cannot be divided over {balancers} balancers",
                f"at least {balancers}",
                "raise slots, or take a balancer out",
                str(pool.slots),
            )
        elif pool.slots % balancers:
            yield Problem(
                path,
                f"{count(pool.slots, 'slot')} over {balancers} balancers leave {pool.slots % balancers} unused",
                f"a multiple of {balancers}",
                f"set {per_balancer * balancers} or {(per_balancer + 1) * balancers}",
                str(pool.slots),
                severity="warning",
            )
