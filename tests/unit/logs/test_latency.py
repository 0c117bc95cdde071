"""Where time went: percentiles, shares and what is counted, and the engines' own view."""

import xml.etree.ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.fleet.prometheus import Answer, Sample
from rackserve.traffic_log.history import engine, plot
from rackserve.traffic_log.history.latency import by_lane, percentile
from rackserve.traffic_log.history.stages import MEANINGS, STAGES
from unit.traffic_log.making import request

# 10 ms to read, 90 ms in the queue, 400 ms to the first token, 500 ms of tokens: 1 s.
STREAM: dict[str, Any] = {
    "origin": "client", "read_ms": 10, "queue_ms": 90, "connect_ms": 0, "headers_ms": 50, "data_ms": 850,
    "first_token_ms": 490, "last_token_ms": 990, "total_ms": 1000,
}  # fmt: skip


def shares(lane: Any) -> dict[str, float]:
    return {stage.stage: round(stage.share_ratio, 6) for stage in lane.stages if stage.share_ratio}


def test_shares_of_the_whole_time_by_stage() -> None:
    (lane,) = by_lane([request(**STREAM)])
    assert shares(lane) == {"read": 0.01, "queue": 0.09, "first token": 0.4, "tokens": 0.5}
    assert (lane.requests, lane.mean_seconds) == (1, 1)


def test_percentiles_are_values_that_occurred() -> None:
    queues = range(1, 101)
    (lane,) = by_lane(
        request(
            **{
                **STREAM,
                "queue_ms": one,
                "first_token_ms": one + 400,
                "last_token_ms": one + 900,
                "total_ms": one + 910,
            }
        )
        for one in queues
    )
    queue = next(stage for stage in lane.stages if stage.stage == "queue")
    assert (queue.p50_seconds, queue.p95_seconds, queue.p99_seconds, queue.max_seconds) == (0.05, 0.095, 0.099, 0.1)
    assert lane.total is not None
    assert lane.total.max_seconds == 1.01


def test_lanes_stand_apart_and_together_first() -> None:
    lanes = by_lane([request(**STREAM), request(**STREAM, lane="batch"), request(**STREAM, lane="batch")])
    assert [(lane.lane, lane.requests) for lane in lanes] == [("all", 3), ("batch", 2), ("interactive", 1)]


def test_only_what_clients_asked_and_what_was_answered_counts_and_the_rest_is_told() -> None:
    (lane,) = by_lane(
        [
            request(**STREAM),
            request(**{**STREAM, "origin": "probe"}),
            request(**{**STREAM, "origin": "-", "lane": "internal"}),
            request(**{**STREAM, "ending": "CD"}),
            request(**{**STREAM, "status": 429, "refused": "rate_limit_exceeded"}),
            request(**{**STREAM, "ending": "SD"}),
        ]
    )
    assert (lane.requests, lane.others) == (2, {"cut": 1, "refused": 1})


def test_a_stream_that_fell_silent_is_not_an_answer() -> None:
    silent = request(**{**STREAM, "ending": "cD", "total_ms": 5000})
    assert by_lane([silent], silence_ms=2000)[0].others == {"timeout": 1}


def test_a_lane_that_was_only_refused_is_there_without_figures() -> None:
    (lane,) = by_lane([request(**{**STREAM, "status": 429, "refused": "rate_limit_exceeded"})])
    assert (lane.requests, lane.stages, lane.total) == (0, (), None)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_a_value_with_so_many_at_or_below_it(values: list[float], percent: float) -> None:
    ascending = sorted(values)
    found = percentile(ascending, percent)
    assert found in ascending
    assert sum(value <= found for value in ascending) >= len(ascending) * percent / 100 - 1e-9


def test_every_stage_has_a_meaning() -> None:
    assert list(MEANINGS) == list(STAGES)


def answer(**samples: float) -> Answer:
    found = {name.replace("_", " "): (Sample(value=(0, value)),) for name, value in samples.items()}
    return Answer("m1", 0, found, {}, {}, ())


def test_the_engines_view_has_shares_of_their_own_time_and_keeps_what_is_unknown() -> None:
    found = engine.spent(
        answer(whole=100, engine_queue_sum=25, engine_queue_count=50, engine_queue_p95=0.5, prefill_p95=float("nan"))
    )
    assert [(one.stage, one.mean_seconds, one.p95_seconds, one.share_ratio) for one in found] == [
        ("engine queue", 0.5, 0.5, 0.25),
        ("prefill", None, None, None),
        ("decode", None, None, None),
    ]
    assert engine.spent(answer()) == engine.spent(answer(whole=0)) == ()


def test_the_engines_question_names_pool_and_time() -> None:
    asked = engine.question("small", 900).instant
    assert asked["prefill p95"] == (
        'histogram_quantile(0.95, sum by (le) (increase(vllm:request_prefill_time_seconds_bucket{job="vllm",pool="small"}[900s])))'
    )
    assert len(asked) == 1 + 3 * 6


def test_the_plot_is_svg_with_a_bar_per_lane_of_that_length() -> None:
    slow = request(**{**STREAM, "lane": "batch", "last_token_ms": 2980, "total_ms": 3000})
    lanes = by_lane([request(**STREAM), slow])
    drawn = xml.etree.ElementTree.fromstring(plot.svg("pool <small>", lanes))
    bars = [one for one in drawn.iter() if one.tag.endswith("rect") and len(one)]
    by_row: dict[str, float] = {}
    for one in bars:
        by_row[one.attrib["y"]] = by_row.get(one.attrib["y"], 0) + float(one.attrib["width"])
    all_lanes, batch, interactive = by_row.values()
    assert batch == pytest.approx(3 * interactive, rel=0.01)
    assert all_lanes == pytest.approx(2 * interactive, rel=0.01)


@pytest.mark.parametrize(("ratio", "width"), [(0, 0), (0.5, 10), (1, 20), (2, 20), (0.01, 1)])
def test_bars_in_a_terminal_are_as_long_as_their_share(ratio: float, width: int) -> None:
    assert len(plot.bar(ratio)) == width
