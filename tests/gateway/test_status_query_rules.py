"""What scripts/status and scripts/explain-latency ask Prometheus, in promtool of Debian 13: what comes out of known series."""

from typing import Any

import pytest
from rackserve.fleet.status.queries import INSTANT
from rackserve.traffic_log.history.engine import question

from gateway.balancer import Node
from gateway.promtool import Promtool

CLIENT = 'job="traffic",origin="client",pool="small",lane="interactive"'
SECONDS = 600


def series(name: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def rising(step: int) -> str:
    """So many more every 15 s."""
    return f"0+{step}x{SECONDS // 15}"


def requests(outcome: str, step: int, labels: str = CLIENT) -> list[dict[str, str]]:
    """At both balancers."""
    return [
        series("rackserve_requests_total", f'{labels},outcome="{outcome}",node="{node}"', rising(step))
        for node in ("lb1", "lb2")
    ]


def histogram(name: str, labels: str, below: dict[str, int]) -> list[dict[str, str]]:
    return [series(f"{name}_bucket", f'{labels},le="{edge}"', rising(step)) for edge, step in below.items()]


def check(expression: str, *samples: tuple[str, float], seconds: int = SECONDS) -> dict[str, Any]:
    found = [{"labels": labels, "value": value} for labels, value in samples]
    return {"expr": expression, "eval_time": f"{seconds}s", "exp_samples": found}


def case(given: list[dict[str, str]], *checks: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    test = {"interval": "15s", "input_series": given, "promql_expr_test": list(checks)}
    return [], {"evaluation_interval": "15s", "tests": [test]}


PLACE = '{lane="interactive",pool="small"}'
PROBE = CLIENT.replace("client", "probe")
COPY = CLIENT.replace('job="traffic"', 'job="copy"')
COUNTED = [
    *requests("ok", 30), *requests("refused", 15), *requests("cut", 15), *requests("timeout", 15),
    *requests("client_error", 15), *requests("ok", 1000, PROBE), *requests("ok", 1000, COPY),
]  # fmt: skip
TIMES = [
    *histogram("rackserve_time_to_first_token_seconds", CLIENT, {"0.25": 285, "0.5": 300, "+Inf": 300}),
    *histogram("rackserve_time_to_first_token_seconds", PROBE, {"0.25": 0, "0.5": 0, "+Inf": 5000}),
    *histogram("rackserve_response_seconds", f'{CLIENT},reply="0-99"', {"1.0": 150, "5.0": 150, "+Inf": 150}),
    *histogram("rackserve_response_seconds", f'{CLIENT},reply="100-"', {"1.0": 0, "5.0": 150, "+Inf": 150}),
]
ENGINE = 'job="vllm",pool="small",engine="e1"'
UP = [
    series("up", 'job="traffic",instance="lb1:8406",node="lb1"', "1x20 0x20"),
    series("up", 'job="traffic",instance="lb2:8406",node="lb2"', "0x40"),
]
STORED = [series("up", 'job="node",node="lb1"', "0x40"), series("up", 'job="node",node="lb2"', "1x20")]
ENGINES = [
    series("vllm:num_requests_running", f'{ENGINE},exported_engine="{number}"', f"{number + 1}x40") for number in (0, 1)
] + [
    series("vllm:kv_cache_usage_perc", f'{ENGINE},exported_engine="{number}"', f"0.{number + 1}x40")
    for number in (0, 1)
]
ASKED = question("small", 300).instant
HISTOGRAMS = [
    *histogram("vllm:request_queue_time_seconds", ENGINE, {"0.3": 95, "0.5": 100, "1.0": 100, "+Inf": 100}),
    *histogram("vllm:request_queue_time_seconds", ENGINE.replace("small", "large"), {"0.3": 0, "+Inf": 900}),
    series("vllm:request_queue_time_seconds_sum", ENGINE, rising(10)),
    series("vllm:e2e_request_latency_seconds_sum", ENGINE, rising(100)),
]
CASES = {
    "rates": case(
        COUNTED,
        check(INSTANT["rate"], (PLACE, 12)),
        check(INSTANT["refused"], (PLACE, 2)),
        check(INSTANT["failed"], (PLACE, 4)),
    ),
    "times": case(TIMES, check(INSTANT["first_token"], (PLACE, 0.25)), check(INSTANT["answer"], (PLACE, 4.6))),
    # Scraped with success last at 300 s.
    "age": case(UP, check(INSTANT["age"], ("{}", 8), seconds=308), check(INSTANT["age"], seconds=598)),
    # The newest of any, also of what failed; exact to the minutes at which the query looks, and silent after an hour.
    "stored": case(STORED, check(INSTANT["stored"], ("{}", 0), seconds=600), check(INSTANT["stored"], ("{}", 300), seconds=900)),
    "unscraped": case(UP, check(INSTANT["unscraped"], ('up{instance="lb2:8406",job="traffic",node="lb2"}', 0), seconds=100)),
    "engines": case(
        ENGINES, check(INSTANT["running"], ('{engine="e1"}', 3)), check(INSTANT["kv_cache"], ('{engine="e1"}', 0.2))
    ),
    "stages": case(
        HISTOGRAMS,
        check(ASKED["engine queue p95"], ("{}", 0.3)),
        check(ASKED["engine queue max"], ("{}", 0.5)),
        check(ASKED["engine queue sum"], ("{}", 200)),
        check(ASKED["whole"], ("{}", 2000)),
        check(ASKED["decode p95"]),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def promtool(node: Node) -> Promtool:
    return Promtool(node)


def test_figures_are_those_of_clients_at_every_balancer_once(promtool: Promtool) -> None:
    assert promtool.failing(CASES) == {}


def test_wrong_figures_are_noticed(promtool: Promtool) -> None:
    groups, body = case(COUNTED, check(INSTANT["rate"], (PLACE, 11)))
    assert list(promtool.failing({"wrong": (groups, body), "right": CASES["rates"]})) == ["wrong"]
