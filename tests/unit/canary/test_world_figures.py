"""From a log service's page to sums by track: what counts as bad, for whom, and what is left out."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from rackserve.canary.run.figures import between
from rackserve.canary.world.figures import NAMES, NoFigures, source
from rackserve.canary.world.promises import edges, limits
from rackserve.traffic_log.metrics import Metrics
from unit.traffic_log.making import request, settings

PLAN: dict[str, Any] = {
    "pools": {"small": {"lanes": ["interactive", "batch"]}},
    "slos": [
        {"pool": "small", "lane": None, "indicator": "ttft", "threshold_seconds": 10, "objective_percent": 99.9},
        {"pool": "small", "lane": "interactive", "indicator": "ttft", "threshold_seconds": 1, "objective_percent": 95},
        {
            "pool": "small",
            "lane": "interactive",
            "indicator": "ttft",
            "threshold_seconds": 0.1,
            "objective_percent": 50,
        },
        {"pool": "other", "lane": None, "indicator": "inter_token", "threshold_seconds": 1, "objective_percent": 99},
        {"pool": "small", "lane": "interactive", "indicator": "availability", "objective_percent": 99},
    ],
}
OWN = edges(PLAN, "small")


def page(directory: Path, *requests: dict[str, Any]) -> str:
    """Of a service that has counted these requests; the lines that a balancer's program hands on."""
    metrics = Metrics(settings(directory))
    for one in requests:
        metrics.add(request(**one))
    lines = generate_latest(metrics.registry).decode().splitlines()
    names = (*(f"{name}{{" for name in NAMES), "process_start_time_seconds ")
    return "\n".join(line for line in lines if line.startswith(names))


def test_a_lanes_own_promise_comes_first_and_of_several_the_one_about_the_tail() -> None:
    assert OWN == {"slow_ttft": {"interactive": 1.0, "batch": 10.0}}
    assert limits(PLAN, "small") == {"slow_ttft": pytest.approx(0.05)}, "availability is promised to one lane only"


def test_bad_events_are_told_apart_by_track_and_lane(tmp_path: Path) -> None:
    found = source(
        page(
            tmp_path,
            {"track": "canary"},
            {"track": "canary", "first_token_ms": 5000, "last_token_ms": 6000},
            {"track": "canary", "status": 500, "tokens": 0},
            {"track": "canary", "ending": "SD"},
            {"track": "canary", "tokens": 21},
            {"track": "stable", "missed_by": "canary"},
            {"track": "baseline", "first_token_ms": 500, "last_token_ms": 600},
            {"track": "baseline", "lane": "batch", "first_token_ms": 5000, "last_token_ms": 6000},
        ),
        OWN,
    )
    assert found.requests == {"canary": 6, "baseline": 2}
    cells = found.cells
    assert cells["errors"]["canary"]["interactive"] == (2, 6), "a 500 and a miss"
    assert cells["cut_streams"]["canary"]["interactive"] == (1, 4)
    assert cells["empty_answers"]["canary"]["interactive"] == (1, 3)
    assert cells["slow_ttft"]["canary"]["interactive"][0] == 1
    assert cells["slow_ttft"]["baseline"] == {"interactive": (0, 1), "batch": (0, 1)}


def test_what_a_client_or_a_rule_ended_is_no_error_and_probes_do_not_count(tmp_path: Path) -> None:
    found = source(
        page(
            tmp_path,
            {"track": "canary", "ending": "CD", "last_token_ms": None},
            {"track": "canary", "status": 400},
            {"track": "canary", "status": 429, "refused": "requests_per_minute"},
            {"track": "canary", "origin": "probe", "lane": "internal", "status": 500},
        ),
        OWN,
    )
    assert found.requests == {"canary": 3}
    assert found.cells["errors"]["canary"] == {"interactive": (0, 1)}


def test_a_slice_between_two_pages_is_whole_and_another_process_voids_it(tmp_path: Path) -> None:
    first, more = (
        page(tmp_path, {"track": "canary"}),
        page(tmp_path, {"track": "canary"}, {"track": "canary", "status": 500}),
    )
    before, after = source(first, OWN), source(more, OWN)
    one = between({"b": before}, {"b": after}, "stable")
    assert (one.canary_requests, one.void) == (1, "")
    again = source(more.replace("process_start_time_seconds ", "process_start_time_seconds 1"), OWN)
    assert "began anew" in between({"b": before}, {"b": again}, "stable").void


@pytest.mark.parametrize("text", ["", 'rackserve_drawn_requests_total{pool="small"', "rackserve x y z"])
def test_a_page_that_is_none_says_so(text: str) -> None:
    with pytest.raises(NoFigures):
        source(text, OWN)
