"""Where the checks of SLOs draw the line; the words of their messages are in tests/unit/definition/broken/slos.yml."""

from collections.abc import Callable
from typing import Any

import pytest
from rackserve.definition.checks import slos
from rackserve.definition.read import Definition

Make = Callable[..., Definition]
# In conftest: chat waits 5 s and answers 100 s, batch waits 60 s and answers 5,000 s; the pool ends answers after 900 s.
LIMITS = [
    ("queue_wait", "chat", 5),
    ("queue_wait", "batch", 60),
    ("queue_wait", None, 60),
    ("inter_token", "chat", 120),
    ("ttft", "chat", 100),
    ("response_time", "chat", 100),
    ("response_time", "batch", 900),
    ("response_time", None, 900),
]


@pytest.mark.parametrize(("indicator", "lane", "limit"), LIMITS)
def test_a_threshold_has_to_be_below_what_ends_the_request(
    define: Make, indicator: str, lane: str | None, limit: int
) -> None:
    def refused(threshold: float) -> bool:
        slo: dict[str, Any] = {"indicator": indicator, "lane": lane, "threshold_seconds": threshold}
        return bool(list(slos.thresholds_can_be_missed(define(slo))))

    assert (refused(limit - 0.1), refused(float(limit))) == (False, True)


@pytest.mark.parametrize(("days", "refused"), [(45, False), (46, True)])
def test_a_window_may_be_as_long_as_metrics_are_kept(define: Make, days: int, refused: bool) -> None:
    assert bool(list(slos.windows_are_kept(define({"window_days": days})))) == refused


@pytest.mark.parametrize(
    ("alert", "days", "refused"),
    [
        ("page_and_ticket", 6, False),
        ("page_and_ticket", 5, True),
        ("ticket", 3, False),
        ("ticket", 2, True),
        ("none", 1, False),
    ],
)
def test_the_shortest_window_follows_from_the_alert(define: Make, alert: str, days: int, refused: bool) -> None:
    assert bool(list(slos.windows_fit_the_burn(define({"alert": alert, "window_days": days})))) == refused


@pytest.mark.parametrize(("objective", "refused"), [(83.3, True), (83.4, False)])
def test_a_full_outage_has_to_be_able_to_page(define: Make, objective: float, refused: bool) -> None:
    assert bool(list(slos.pages_can_fire(define({"objective_percent": objective})))) == refused
    assert not list(slos.pages_can_fire(define({"objective_percent": objective, "alert": "ticket"})))
