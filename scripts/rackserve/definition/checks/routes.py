"""Checks of routes, scenarios and canary plans against pools, lanes and names."""

from collections.abc import Iterator

from rackserve.definition import wording
from rackserve.definition.problem import Path, Problem
from rackserve.definition.read import Definition


def routes_lead_somewhere(definition: Definition) -> Iterator[Problem]:
    pools, lanes = definition.declared["pools"], definition.declared["lanes"]
    served = {name for pool in definition.service.pools.values() for name in pool.names}
    whole = pools == frozenset(definition.service.pools)
    names: set[str] = set()
    for number, route in enumerate(definition.service.routes):
        base: Path = ("service_routes", number)
        if route.name in names:
            yield Problem(
                (*base, "name"),
                "is the name of a route above",
                "each name once",
                "choose another name",
                f'"{route.name}"',
            )
        names.add(route.name)
        pool = definition.service.pools.get(route.pool)
        if route.pool not in pools:
            yield wording.unknown((*base, "pool"), "pool", route.pool, pools)
        for index, lane in enumerate(route.lanes):
            if lane not in lanes:
                yield wording.unknown((*base, "lanes", index), "lane", lane, lanes)
            elif pool is not None and pool.lanes and lane not in pool.lanes:
                yield Problem(
                    (*base, "lanes", index),
                    f"pool {route.pool} does not accept lane {lane}",
                    ", ".join(pool.lanes),
                    "choose another pool or lane",
                    f'"{lane}"',
                )
        for index, name in enumerate(route.names):
            if whole and name not in served:
                yield wording.unknown(
                    (*base, "names", index), "model name", name, served, "use a name that a pool has in `names`"
                )
        if not (route.names or route.lanes or route.prompt_tokens_over or route.stream is not None):
            yield Problem(
                base,
                "matches every request",
                "at least one of names, lanes, prompt_tokens_over, stream",
                "say which requests are meant",
            )


def scenarios_refer(definition: Definition) -> Iterator[Problem]:
    lanes = definition.declared["lanes"]
    for name, scenario in definition.service.scenarios.items():
        for index, lane in enumerate(scenario.lanes):
            if lane not in lanes:
                yield wording.unknown(("service_scenarios", name, "lanes", index), "lane", lane, lanes)
