"""Every window, number and comparison of the burn rules is changed in turn, and some test notices each change."""

from typing import Any

from rackserve.definition.burn import PAIRS, Pair
from rackserve.slo.rules import duration

from gateway.balancer import Node
from gateway.promtool import Promtool
from gateway.slo_cases import burst, burst_checks, mutants, mutate, of_pair, requests, rule_test
from gateway.test_slo_rules import GROUPS, burns, guards, outage

Case = tuple[Any, dict[str, Any]]


def mutated(pair: Pair) -> dict[str, tuple[str, Any]]:
    """Name -> (what was changed, the groups of the pair with it)."""
    groups = of_pair(GROUPS, pair)
    found = [
        (f"{rule.get('record', 'SloBurn')} {rule['labels'].get('window', '')}: {what}", mutate(groups, g, r, changed))
        for g, group in enumerate(groups)
        # The steps are the same for every pair of sums, and the second pair is the quickest of them.
        if group["name"] == "slo-s" or pair is PAIRS[1]
        for r, rule in enumerate(group["rules"])
        for what, changed in mutants(rule["expr"])
    ]
    return {f"m{number}-{duration(pair.long_seconds)}": one for number, one in enumerate(found)}


def quick(pair: Pair) -> dict[str, Any]:
    """Short tests of the pair in one, which notice most changes."""
    window = duration(pair.long_seconds)
    steady = [body for name, (_, body) in burns().items() if name in (f"1.1-{window}", f"0.9-{window}")]
    bodies = [*steady, *guards(pair).values(), outage(pair)]
    return {**bodies[0], "tests": [test for body in bodies for test in body["tests"]]}


def test_every_changed_rule_is_noticed(node: Node) -> None:
    promtool = Promtool(node)
    everything = {name: (pair, *one) for pair in PAIRS for name, one in mutated(pair).items()}
    assert len(everything) > 150
    bodies = {pair: quick(pair) for pair in PAIRS}
    noticed = promtool.failing({name: (groups, bodies[pair]) for name, (pair, _, groups) in everything.items()})
    left = {name: one for name, one in everything.items() if name not in noticed}
    again: dict[str, Case] = {}
    for name, (pair, _, groups) in left.items():
        shape = burst(pair, 1.9, sample_minutes=1 if pair is PAIRS[0] else 5)
        again[name] = groups, rule_test(requests(shape.pieces), burst_checks(shape), shape.sample_minutes)
    failing = promtool.failing(again)
    survived = {what for name, (_, what, _) in left.items() if name not in failing}
    assert survived == set()
