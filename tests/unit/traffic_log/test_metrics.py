"""The page: names, labels, bounds."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from rackserve.traffic_log.metrics import Metrics
from rackserve.traffic_log.outcome import Outcome
from unit.traffic_log.making import EDGES, request, settings

PLACE = {"pool": "small", "lane": "interactive", "track": "stable", "tenant": "demo", "origin": "client"}


def made(path: Path, now: list[float] | None = None, **changes: object) -> Metrics:
    clock = now or [0.0]
    return Metrics(settings(path, **changes), lambda: clock[0])


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_stream_is_counted_with_its_times(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request(room_ms=10, read_ms=10, first_token_ms=200, last_token_ms=1200))
    counted = PLACE | {"scenario": "none", "endpoint": "/v1/chat/completions", "outcome": "ok"}
    assert value(metrics, "rackserve_requests_total", **counted) == 1
    assert value(metrics, "rackserve_time_to_first_token_seconds_sum", **PLACE) == 0.2
    assert value(metrics, "rackserve_inter_token_seconds_sum", **PLACE) == 0.1
    assert value(metrics, "rackserve_queue_wait_seconds_sum", **PLACE) == 0.015
    assert value(metrics, "rackserve_response_seconds_sum", **PLACE, reply="any") == 1.1
    place = {name: PLACE[name] for name in ("pool", "lane", "track", "tenant")}
    assert value(metrics, "rackserve_tokens_total", **place, direction="reply", estimated="false") == 11
    assert value(metrics, "rackserve_prompt_tokens_count", **PLACE) == 1


def test_a_threshold_is_a_bucket_and_counters_stay_when_it_changes(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request())
    edges = EDGES | {"ttft": [0.1, 1.0, 2.0, 10.0]}
    assert metrics.use(settings(tmp_path, edges=edges)) == ["rackserve_time_to_first_token_seconds"]
    metrics.add(request())
    assert value(metrics, "rackserve_time_to_first_token_seconds_bucket", **PLACE, le="2.0") == 1
    assert value(metrics, "rackserve_queue_wait_seconds_count", **PLACE) == 2


def drawn(metrics: Metrics, track: str, came_to: str) -> float | None:
    labels = {"pool": "small", "lane": "interactive", "track": track, "came_to": came_to}
    return value(metrics, "rackserve_drawn_requests_total", **labels)


def test_a_request_that_missed_its_track_is_counted_there_and_not_where_it_was_served(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request(track="stable", missed_by="canary"))
    assert (drawn(metrics, "canary", "missed"), drawn(metrics, "stable", "ok")) == (1, None)
    assert value(metrics, "rackserve_time_to_first_token_seconds_count", **PLACE) == 1, "stable's time all the same"


@pytest.mark.parametrize(
    ("changes", "came_to"),
    [
        ({}, "ok"),
        ({"tokens": 21}, "empty"),
        ({"tokens": 21, "tokens_estimated": True}, "ok"),
        ({"tokens": 0}, "ok"),
        ({"status": 500, "tokens": 0}, "engine_error"),
        ({"ending": "sQ", "status": 503, "refused": "-"}, "queue_timeout"),
        ({"ending": "SD"}, "cut"),
    ],
)
def test_a_drawn_request_is_told_apart_by_what_it_came_to(
    tmp_path: Path, changes: dict[str, Any], came_to: str
) -> None:
    metrics = made(tmp_path)
    metrics.add(request(track="canary", **changes))
    assert drawn(metrics, "canary", came_to) == 1


def test_what_has_no_track_yet_and_what_the_service_asks_itself_is_not_drawn(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request(track="-", status=429, refused="requests_per_minute"))
    metrics.add(request(lane="internal", origin="probe", track="canary"))
    assert b"rackserve_drawn_requests_total{" not in generate_latest(metrics.registry)


def kept_bytes(metrics: Metrics) -> int:
    """Of what it keeps by names that come from requests."""
    return len(pickle.dumps([list(metrics._children), metrics._labels._reasons, metrics._maxima]))


def test_fake_tenants_do_not_grow_the_page(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    one = request(tenant="nobody")
    metrics.add(one)
    size, held = len(generate_latest(metrics.registry).splitlines()), kept_bytes(metrics)
    for number in range(100_000):
        metrics.add(one.model_copy(update={"tenant": f"t{number}", "model": f"m{number}", "key_name": f"k{number}"}))
    assert len(generate_latest(metrics.registry).splitlines()) == size
    assert kept_bytes(metrics) <= held + 1000, "neither do its look-ups"
    metrics.add(request(pool="unknown", lane="x", track="x", scenario="x", path="/x", origin="x", refused="A b"))
    text = generate_latest(metrics.registry).decode()
    assert 'reason="other"' in text
    assert "unknown" not in text


def test_tenants_beyond_the_declared_most_are_others(tmp_path: Path) -> None:
    metrics = made(tmp_path, tenants=["a", "demo"], tenants_at_most=1)
    metrics.add(request())
    assert value(metrics, "rackserve_queue_wait_seconds_count", **PLACE | {"tenant": "other"}) == 1


def test_refusals_have_their_reason(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request(refused="queue_full", status=503, ending="LR", queue_ms=-1, tokens=0, headers_ms=-1))
    metrics.add(request(ending="sQ", status=503, server="<NOSRV>", headers_ms=-1, tokens=0))
    labels = {"pool": "small", "lane": "interactive", "tenant": "demo"}
    assert value(metrics, "rackserve_refusals_total", **labels, reason="queue_full") == 1
    assert value(metrics, "rackserve_refusals_total", **labels, reason="queue_timeout") == 1


def test_the_internal_lane_is_the_probes(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request(lane="internal"))
    assert value(metrics, "rackserve_queue_wait_seconds_count", **PLACE | {"lane": "internal", "origin": "probe"}) == 1


def test_the_largest_of_the_last_minute(tmp_path: Path) -> None:
    now = [1000.0]
    metrics = made(tmp_path, now)
    metrics.add(request(queue_ms=500))
    metrics.add(request(queue_ms=20))
    assert value(metrics, "rackserve_queue_wait_seconds_max", **PLACE) == 0.5
    now[0] += 61
    metrics.add(request(queue_ms=30))
    assert value(metrics, "rackserve_queue_wait_seconds_max", **PLACE) == 0.03


def test_every_way_to_end_begins_at_zero_so_that_a_first_failure_is_an_increase(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.add(request())
    counted = PLACE | {"scenario": "none", "endpoint": "/v1/chat/completions"}
    ways = {way.value: value(metrics, "rackserve_requests_total", **counted, outcome=way.value) for way in Outcome}
    assert ways == {way.value: 1 if way is Outcome.OK else 0 for way in Outcome}


def test_the_page_names_the_program_and_the_settings_in_use(tmp_path: Path) -> None:
    metrics = Metrics(settings(tmp_path, version="one"), program="p")
    metrics.use(settings(tmp_path, version="two"))
    assert value(metrics, "rackserve_log_service_info", node="lb1", program="p", settings="two") == 1
    assert value(metrics, "rackserve_log_service_info", node="lb1", program="p", settings="one") is None
