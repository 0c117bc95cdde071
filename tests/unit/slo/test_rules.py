"""What the generated rules are made of. What they do is tested with promtool in tests/gateway."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rackserve.definition.read import Definition
from rackserve.slo import rules

Make = Callable[..., Definition]
REPOSITORY = Path(__file__).parents[3]
TTFT = {"name": "t", "indicator": "ttft", "threshold_seconds": 1.0, "lane": "chat"}
RECORDED = re.compile(r"(rackserve:[a-z0-9_:]+)(?:\{([^}]*)\})?")


def members(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [rule for group in found["groups"] for rule in group["rules"] if kind in rule]


def alerts(found: dict[str, Any], name: str = "SloBurn") -> list[dict[str, Any]]:
    return [rule for rule in members(found, "alert") if rule["alert"] == name]


def matchers(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def test_each_slo_has_four_burn_alerts_with_its_labels(define: Make) -> None:
    found = alerts(rules(define(TTFT)))
    assert [(rule["labels"]["severity"], rule["labels"]["window"]) for rule in found] == [
        ("page", "1h"),
        ("page", "6h"),
        ("ticket", "1d"),
        ("ticket", "3d"),
    ]
    assert all(rule["labels"].items() >= {"slo": "t", "pool": "p", "lane": "chat"}.items() for rule in found)


@pytest.mark.parametrize(
    ("alert", "severities"), [("ticket", {"ticket"}), ("none", set()), ("page_and_ticket", {"page", "ticket"})]
)
def test_nobody_hears_more_than_the_slo_says(define: Make, alert: str, severities: set[str]) -> None:
    found = members(rules(define({"alert": alert}, {**TTFT, "alert": alert})), "alert")
    assert {rule["labels"]["severity"] for rule in found} == severities


def test_an_slo_without_alert_still_has_its_budget(define: Make) -> None:
    recorded = {rule["record"] for rule in members(rules(define({"alert": "none"})), "record")}
    assert recorded >= {"rackserve:slo_budget_left:ratio", "rackserve:slo_exhaustion:seconds"}


@pytest.mark.parametrize("days", [6, 7, 28, 30, 45])
def test_whatever_a_rule_reads_is_recorded_with_those_labels(define: Make, days: int) -> None:
    found = rules(define({"window_days": days}, {**TTFT, "window_days": days}))
    recorded = [(rule["record"], rule["labels"]) for rule in members(found, "record")]
    for rule in (*members(found, "record"), *alerts(found)):
        for name, text in RECORDED.findall(rule["expr"]):
            wanted = matchers(text)
            assert any(name == other and labels.items() >= wanted.items() for other, labels in recorded), (name, wanted)
            assert wanted["slo"] == rule["labels"]["slo"]


def test_no_two_rules_record_the_same_series(define: Make) -> None:
    found = members(rules(define({"window_days": 6}, TTFT, {"name": "u", "window_days": 45})), "record")
    series = [(rule["record"], *sorted(rule["labels"].items())) for rule in found]
    assert len(set(series)) == len(series)


def test_every_counter_is_what_clients_asked_read_from_the_balancers_pages(define: Make) -> None:
    found = rules(define({}, TTFT, {"name": "q", "indicator": "queue_wait", "threshold_seconds": 0.5}))
    for rule in (*members(found, "record"), *alerts(found, "SloWithoutData")):
        for text in re.findall(r"rackserve_\w+\{([^}]*)\}", rule["expr"]):
            assert matchers(text).items() >= {"job": "traffic", "origin": "client", "pool": "p"}.items()


@pytest.mark.parametrize(("lane", "read"), [(None, None), ("chat", "chat")])
def test_only_the_slos_own_lane_is_counted(define: Make, lane: str | None, read: str | None) -> None:
    for rule in members(rules(define({"lane": lane}, {**TTFT, "lane": lane})), "record"):
        for text in re.findall(r"rackserve_\w+\{([^}]*)\}", rule["expr"]):
            assert matchers(text).get("lane") == read


@pytest.mark.parametrize(
    ("indicator", "metric"),
    [
        ("ttft", "rackserve_time_to_first_token_seconds"),
        ("inter_token", "rackserve_inter_token_seconds"),
        ("queue_wait", "rackserve_queue_wait_seconds"),
        ("response_time", "rackserve_response_seconds"),
    ],
)
def test_a_timed_slo_compares_the_bucket_of_its_threshold_with_the_count(
    define: Make, indicator: str, metric: str
) -> None:
    found = rules(define({"indicator": indicator, "threshold_seconds": 1.0}))
    step = {rule["record"]: rule["expr"] for rule in members(found, "record")}
    assert f"{metric}_count" in step["rackserve:slo_valid:increase5m"]
    assert re.search(rf'{metric}_bucket{{[^}}]*le="1\.0"', step["rackserve:slo_good:increase5m"])


def test_a_reply_length_reads_its_own_classes(define: Make) -> None:
    found = rules(
        define(
            {"indicator": "response_time", "threshold_seconds": 5.0, "reply_length": {"to_tokens": 100}},
            {"name": "all", "indicator": "response_time", "threshold_seconds": 9.0},
        )
    )
    short, every = (
        next(r["expr"] for r in members(found, "record") if r["labels"]["slo"] == name) for name in ("s", "all")
    )
    assert 'reply=~"0-100"' in short
    assert "reply" not in every


def test_refusals_and_the_clients_own_faults_are_no_events(define: Make) -> None:
    first = members(rules(define({})), "record")[0]["expr"]
    outcomes = set(matchers(first.replace("=~", "="))["outcome"].split("|"))
    assert outcomes == {"ok", "client_gone_after", "engine_error", "cut", "timeout", "unreachable"}


def test_the_guard_is_the_slos_own_minimum(define: Make) -> None:
    for rule in alerts(rules(define({"minimum_requests_per_hour": 77}))):
        assert "* 3600 >= 77" in rule["expr"]


def test_each_balancer_has_to_be_heard_of(define: Make) -> None:
    found = alerts(rules(define({})), "TrafficPageGone")
    assert [rule["labels"]["node"] for rule in found] == ["lb1", "lb2"]


def test_a_service_without_slos_has_no_rules(define: Make) -> None:
    assert rules(define()) == {"groups": []}


def test_cost_has_no_metric_and_is_refused(define: Make) -> None:
    with pytest.raises(ValueError, match="s: there is no metric for the indicator cost"):
        rules(define({"indicator": "cost", "threshold_cost": 0.1}))


def test_every_alert_says_what_happened_in_figures_and_where_to_read_on(define: Make) -> None:
    for rule in members(rules(define({}, TTFT)), "alert"):
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert re.search(r"\d", rule["annotations"]["description"])
        runbook = REPOSITORY / rule["annotations"]["runbook"]
        assert runbook.is_file(), f"{rule['alert']}: no {runbook}"
        assert runbook.read_text().startswith("First: "), f"{runbook}: the first line is the first action"
