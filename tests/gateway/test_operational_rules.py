"""The operational alerts in promtool of Debian 13: when each fires, when it ends, and just under which it is silent."""

from typing import Any

import pytest
from rackserve.alerts import rules

from gateway.alert_cases import CASES
from gateway.alert_making import STABLE, definition, firing, one, sessions, status, up
from gateway.balancer import Node
from gateway.promtool import Promtool
from gateway.slo_cases import rule_test

GROUPS: list[dict[str, Any]] = rules(definition())["groups"]
ALERTS = sorted({rule["alert"] for group in GROUPS for rule in group["rules"]})


def of_alert(name: str) -> list[dict[str, Any]]:
    """Only the rules of that name, so that promtool has little to do."""
    found = [{**group, "rules": [rule for rule in group["rules"] if rule["alert"] == name]} for group in GROUPS]
    return [group for group in found if group["rules"]]


def healthy() -> list[dict[str, str]]:
    """Half an hour of a service that is well, as far as rules read it."""
    engines = {
        name: text
        for proxy in ("engines", "breakers", STABLE)
        for state, value in (("UP", "1x40"), ("DOWN", "0x40"), ("MAINT", "0x40"))
        for name, text in status(state, proxy, lb1_1=value, lb1_2=value, lb2_1=value, lb2_2=value).items()
    }
    vllm = {
        name: text
        for engine in ("p-1", "p-2")
        for metric, values in (
            ("up", "1x40"),
            ("vllm:generation_tokens_total", "0+500x40"),
            ("vllm:prompt_tokens_total", "0+900x40"),
            ("vllm:kv_cache_usage_perc", "0.6x40"),
            ("vllm:num_preemptions_total", "3x40"),
            ("process_start_time_seconds", "100x40"),
        )
        for name, text in one(metric, values, job="vllm", pool="p", engine=engine, track="stable", release="r").items()
    }
    others = {
        name: text
        for job, nodes in (
            ("haproxy", ("lb1", "lb2")),
            ("probe", ("g1", "g2")),
            ("node", ("lb1", "lb2", "g1", "g2", "m1")),
            ("prometheus", ("m1",)),
        )
        for node in nodes
        for name, text in up(job, "1x40", node=node).items()
    }
    busy = {**sessions("backend", STABLE, "6x40"), **sessions("server", STABLE, "6x40", server="p-1")}
    probe = {
        name: text
        for metric, values in (
            ("blind", "0x40"),
            ("deadline_short", "0x40"),
            ("restart_limit_reached", "0x40"),
            ("restarts_total", "2x40"),
        )
        for name, text in one(f"rackserve_probe_{metric}", values, job="probe", pool="p", engine="p-1").items()
    }
    hung = one("rackserve_probe_state", "0x40", job="probe", pool="p", engine="p-1", state="hung")
    clock = one("node_time_seconds", "0.02+60x40", job="node", node="g1")
    return [
        {"series": name, "values": text}
        for name, text in {**engines, **vllm, **others, **busy, **clock, **probe, **hung}.items()
    ]


def everything() -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    found = {name: (of_alert(case.alert), case.body) for name, case in CASES.items()}
    well = [firing(alert, 30, int(alert == "Watchdog")) for alert in ALERTS]
    blind = {"BalancerGone": 3, "ProbeDown": 2, "NodeGone": 5, "PrometheusTrouble": 1, "Watchdog": 1}
    nothing = [firing(alert, 30, blind.get(alert, 0)) for alert in ALERTS]
    return {
        **found,
        "well": (GROUPS, rule_test(healthy(), well)),
        "no-series": (GROUPS, rule_test([], nothing)),
    }


@pytest.fixture(scope="module")
def failing(node: Node) -> dict[str, str]:
    """All cases in one process."""
    return Promtool(node).failing(everything())


@pytest.mark.parametrize("name", everything())
def test_an_alert_fires_and_ends_when_arithmetic_says_so(failing: dict[str, str], name: str) -> None:
    assert name not in failing, failing[name]


def test_each_rule_has_a_case_that_fires_and_one_that_does_not() -> None:
    for rule in (rule for group in GROUPS for rule in group["rules"]):
        looks = [
            look for case in CASES.values() if case.concerns(rule) for look in case.body["tests"][0]["promql_expr_test"]
        ]
        seen = {look["exp_samples"][0]["value"] for look in looks}
        assert seen == ({1} if rule["alert"] == "Watchdog" else {0, 1}), rule["alert"]


def test_promtool_finds_nothing_to_say(node: Node) -> None:
    assert "SUCCESS" in Promtool(node).check({"groups": GROUPS})
