"""The generated rules in promtool of Debian 13: when alerts fire, when they end, and when they must stay silent."""

from typing import Any

import pytest
from rackserve.definition.burn import PAIRS, Pair
from rackserve.slo import rules
from rackserve.slo.rules import duration

from gateway.balancer import Node
from gateway.promtool import Promtool
from gateway.slo_cases import (
    Piece,
    burst,
    burst_checks,
    counter,
    definition,
    few,
    firing,
    of_pair,
    requests,
    rule_test,
    slo,
    sustained,
)

Case = tuple[Any, dict[str, Any]]
WINDOWS = [duration(pair.long_seconds) for pair in PAIRS]
GROUPS = rules(definition(slo()))["groups"]
TTFT = rules(definition(slo(indicator="ttft", threshold_seconds=1.0)))["groups"]


def silent(*minutes: int) -> list[dict[str, Any]]:
    return [firing(window, minute, 0) for window in WINDOWS for minute in minutes]


def value(expression: str, minute: int, expected: float) -> dict[str, Any]:
    sample = {"labels": "{}", "value": expected}
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [sample]}


def alerting(name: str, minute: int, expected: int) -> dict[str, Any]:
    return value(f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)', minute, expected)


def burns() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for pair, window, sample in zip(PAIRS, WINDOWS, (1, 5, 5, 5), strict=True):
        groups = of_pair(GROUPS, pair)
        shape = burst(pair, 1.9, sample_minutes=sample)
        found[f"burst-{window}"] = groups, rule_test(requests(shape.pieces), burst_checks(shape), sample)
        for times, expected in ((1.1, 1), (0.9, 0)):
            series = requests(sustained(pair, times, 24, sample))
            checks = [firing(window, sample * at, expected) for at in (12, 23, 24)]
            found[f"{times}-{window}"] = groups, rule_test(series, checks, sample)
    return found


def shapes() -> dict[str, Case]:
    """One balancer, one minute between two samples; bad requests are 2.74 % or 0.72 %, 1.9 and 0.5 of the fast factor."""
    burning: Piece = (1, 9726, 274)
    calm: Piece = (1, 9928, 72)
    gap = [
        {**one, "values": f"{one['values']} _x15 {counter([(20, step)], 100 * step)}"}
        for one, step in zip(requests([(79, *burning[1:])]), burning[1:], strict=True)
    ]
    reset = [
        {**one, "values": f"{one['values']} {counter([(30, step)])}"}
        for one, step in zip(requests([(69, *burning[1:])]), burning[1:], strict=True)
    ]
    calm_reset = [
        {**one, "values": f"{one['values']} {counter([(30, step)])}"}
        for one, step in zip(requests([(69, *calm[1:])]), calm[1:], strict=True)
    ]
    page = of_pair(GROUPS, PAIRS[0])
    return {
        "no-traffic": (GROUPS, rule_test(requests([(180, 0, 0)]), silent(60, 180))),
        "no-series": (GROUPS, rule_test([], silent(60, 180))),
        "gap": (
            page,
            rule_test(gap, [firing("1h", 78, 1), firing("1h", 92, 0), firing("1h", 104, 1)]),
        ),
        "reset-in-a-burn": (page, rule_test(reset, [firing("1h", minute, 1) for minute in (69, 70, 71, 75, 99)])),
        "reset-in-calm": (page, rule_test(calm_reset, [firing("1h", minute, 0) for minute in (69, 70, 71, 75, 99)])),
        "slow": (
            GROUPS,
            rule_test(
                requests([(96, 4990, 10)]),
                [firing("1h", 480, 0), firing("6h", 480, 0), firing("1d", 480, 0), firing("3d", 480, 1)],
                5,
            ),
        ),
    }


def guards(pair: Pair) -> dict[str, dict[str, Any]]:
    """Bodies of tests: alone, one failure wakes nobody; nor do several where less is asked than the SLO's minimum."""
    window, step = duration(pair.long_seconds), 1 if pair.long_seconds <= 3600 else 5
    found = {}
    for name, failures, per_hour, expected in (("one", 1, 12, 0), ("two", 2, 12, 1), ("two-of-few", 2, 7, 0)):
        series, minute = few(pair, failures, per_hour)
        found[f"{name}-{window}"] = rule_test(series, [firing(window, minute, expected)], step)
    return found


def outage(pair: Pair) -> dict[str, Any]:
    """Every request fails from the first one on: no series of a good event has ever been there."""
    step = 1 if pair.long_seconds <= 3600 else 5
    return rule_test(requests([(24, 0, 100 * step)])[1:], [firing(duration(pair.long_seconds), 24 * step, 1)], step)


def sums() -> dict[str, Case]:
    pieces: list[Piece] = [(60, 90, 10)]
    copies = [
        *requests(pieces),
        *requests([(60, 100, 0)], node="lb2"),
        *requests(pieces, job="copy"),
        *requests([(60, 0, 500)], origin="probe"),
    ]
    half = requests([(60, 9995, 5)])
    return {
        "two-balancers": (
            GROUPS,
            rule_test(
                copies,
                [
                    value('round(sum(rackserve:slo_valid:rate{window="5m"}) * 60, 0.001)', 60, 200),
                    value('round(sum(rackserve:slo_good:rate{window="1h"}) * 60, 0.001)', 60, 190),
                    value('round(sum(rackserve:slo_burn:rate{window="5m"}), 0.001)', 60, 50),
                ],
            ),
        ),
        "budget": (
            GROUPS,
            rule_test(
                half,
                [
                    value("round(sum(rackserve:slo_budget_left:ratio), 0.001)", 60, 0.5),
                    value("round(sum(rackserve:slo_exhaustion:seconds) / 86400, 0.001)", 60, 30),
                ],
            ),
        ),
    }


def histogram(good: float, bad: float, minutes: int, edge: str = "1.0") -> list[dict[str, str]]:
    name = "rackserve_time_to_first_token_seconds"
    labels = 'job="traffic",node="lb1",origin="client",pool="p",lane="chat"'
    return [
        {"series": f"{name}_count{{{labels}}}", "values": counter([(minutes, good + bad)])},
        {"series": f'{name}_bucket{{{labels},le="{edge}"}}', "values": counter([(minutes, good)])},
        *requests([(minutes, good + bad, 0)]),
    ]


def missing() -> dict[str, Case]:
    up = 'up{{job="traffic",node="{}"}}'
    passed = 'haproxy_backend_http_requests_total{node="lb1",proxy="pool-p-stable"}'
    return {
        "ttft-burns": (
            TTFT,
            rule_test(histogram(700, 300, 60), [firing("1h", 60, 1), alerting("SloWithoutData", 60, 0)]),
        ),
        "ttft-calm": (TTFT, rule_test(histogram(1000, 0, 60), silent(60))),
        "no-bucket": (
            TTFT,
            rule_test(
                histogram(700, 300, 60, edge="0.5"),
                [alerting("SloWithoutData", 8, 0), alerting("SloWithoutData", 15, 1), *silent(60)],
            ),
        ),
        "page-gone": (
            GROUPS,
            rule_test(
                [
                    {"series": up.format("lb1"), "values": "1x10 0x20"},
                    {"series": up.format("lb2"), "values": "1x30"},
                ],
                [alerting("TrafficPageGone", minute, expected) for minute, expected in ((10, 0), (15, 0), (17, 1))],
            ),
        ),
        "target-gone": (
            GROUPS,
            rule_test(
                [{"series": up.format("lb1"), "values": "1x30"}],
                [alerting("TrafficPageGone", 4, 0), alerting("TrafficPageGone", 6, 1)],
            ),
        ),
        "not-counted": (
            GROUPS,
            rule_test(
                [{"series": passed, "values": "0+60x40"}, *requests([(40, 50, 0)], node="lb2")],
                [alerting("TrafficNotCounted", 10, 0), alerting("TrafficNotCounted", 13, 1)],
            ),
        ),
        "counted": (
            GROUPS,
            rule_test(
                [{"series": passed, "values": "0+60x40"}, *requests([(40, 50, 0)])],
                [alerting("TrafficNotCounted", 40, 0)],
            ),
        ),
    }


ALONE = {
    name: (of_pair(GROUPS, pair), body)
    for pair in PAIRS
    for name, body in {**guards(pair), f"outage-{duration(pair.long_seconds)}": outage(pair)}.items()
}
CASES = {**burns(), **shapes(), **ALONE, **sums(), **missing()}


@pytest.fixture(scope="module")
def failing(node: Node) -> dict[str, str]:
    """All cases in one process."""
    return Promtool(node).failing(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_rules_do_what_arithmetic_says(failing: dict[str, str], name: str) -> None:
    assert name not in failing, failing[name]


def test_promtool_finds_nothing_to_say(node: Node) -> None:
    assert "SUCCESS" in Promtool(node).check({"groups": GROUPS})
