"""What is told before a run starts is what the judge then needs."""

import dataclasses

import pytest
from rackserve.canary.judge.counts import METRICS, Window
from rackserve.canary.judge.estimate import Need, need
from rackserve.canary.judge.rules import Rules
from rackserve.canary.judge.verdict import judge

from .simulate import World, slices


def usual(**more: float) -> Need:
    known = {
        "requests_per_second": 10.0, "canary": 0.05, "baseline": 0.05, "minimum": 200, "rate": 0.05, "tolerance": 0.0,
        "factor": 2.0, "alpha": 0.01,
    }  # fmt: skip
    return need(**(known | more))  # type: ignore[arg-type]


def test_enough_is_the_minimum_at_the_canarys_share() -> None:
    assert usual().enough_seconds == pytest.approx(200 / (10 * 0.05))


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_the_judge_needs_about_as_many_bad_events_as_were_told(factor: float, tolerance: float) -> None:
    told = usual(factor=factor, tolerance=tolerance).bad_events
    assert told is not None
    rules = Rules({"slow_ttft": tolerance}, 0.01, measured_only=frozenset(set(METRICS) - {"slow_ttft"}))
    found = []
    for seed in range(31):
        seen = Window()
        for one in slices(World(rate=0.05, factor=factor, requests=20, stall=0, slices=2000), seed):
            seen = seen.plus(one)
            if judge(seen, rules).outcome == "fail":
                break
        found.append(seen.of("slow_ttft").canary.bad + seen.of("slow_ttft").baseline.bad)
    assert told == pytest.approx(sorted(found)[15], rel=0.4)


def test_more_traffic_and_a_larger_difference_take_less_time() -> None:
    slow, busy, worse = usual(), usual(requests_per_second=20), usual(factor=3)
    assert slow.detect_seconds is not None
    assert busy.detect_seconds == pytest.approx(slow.detect_seconds / 2)
    assert worse.detect_seconds is not None
    assert worse.detect_seconds < slow.detect_seconds


def test_what_the_tolerance_allows_is_never_found() -> None:
    assert dataclasses.astuple(usual(tolerance=0.06))[1:] == (None, None)


def test_no_traffic_takes_for_ever() -> None:
    assert usual(requests_per_second=0) == Need(float("inf"), None, None)


@pytest.mark.parametrize("name", ["canary", "baseline", "rate", "alpha"])
def test_a_share_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 1: expected a number between 0 and 1"):
        usual(**{name: 1})
