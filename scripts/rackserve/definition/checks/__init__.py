"""Cross-checks: one small function each, definition in, problems out. The order is the order of the report."""

from collections.abc import Callable, Iterator

from rackserve.definition.checks import effect, engines, memory, nodes, pools, routes, slos, stage, tenants, timeouts
from rackserve.definition.problem import Problem
from rackserve.definition.read import Definition

CHECKS: tuple[Callable[[Definition], Iterator[Problem]], ...] = (
    nodes.groups_are_filled,
    nodes.addresses_are_unique,
    nodes.ports_differ,
    pools.releases_exist,
    pools.models_exist,
    pools.names_are_unique,
    pools.references_exist,
    pools.slots_reach_every_balancer,
    engines.nodes_exist,
    engines.names_are_unique,
    engines.ports_are_free,
    engines.devices_exist,
    engines.shares_fit,
    tenants.references_exist,
    tenants.lanes_are_accepted,
    tenants.keys_are_unique,
    tenants.limits_fit,
    routes.routes_lead_somewhere,
    routes.scenarios_refer,
    timeouts.order_holds,
    timeouts.lanes_fit,
    timeouts.slos_refer,
    slos.indicators_have_a_metric,
    slos.lanes_are_served,
    slos.windows_fit_the_burn,
    slos.windows_are_kept,
    slos.pages_can_fire,
    slos.thresholds_can_be_missed,
    slos.reply_lengths_are_ranges,
    memory.slots_fit,
    memory.contexts_fit,
    stage.secrets_are_real,
    stage.probe_key_is_known,
    stage.the_labs_ca_is_for_the_lab,
    effect.protections_are_in_effect,
)
