"""What the judge decides, that it says why, and that it cannot be talked round."""

import dataclasses
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.canary.judge.counts import METRICS, Cell, Metric, Slice, Tally, Window, window
from rackserve.canary.judge.rules import Rules
from rackserve.canary.judge.verdict import judge

from .simulate import World, slices

RULES = Rules(tolerances={"errors": 0.005, "cut_streams": 0.005, "empty_answers": 0.005, "slow_ttft": 0.05})
STRICT = Rules(tolerances={}, minimum_requests=100)


def steps(
    number: int, canary: int, baseline: int, of: int = 40, metric: Metric = "errors", void: str = ""
) -> list[Slice]:
    """Slices that are all alike."""
    cells = {one: [Cell(Tally(0, of), Tally(0, of))] for one in METRICS}
    cells[metric] = [Cell(Tally(canary, of), Tally(baseline, of))]
    return [Slice(cells, of, of, void) for _ in range(number)]


def test_nothing_wrong_and_enough_seen_passes_and_says_so() -> None:
    verdict = judge(window(steps(10, 0, 0)), RULES)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("No worse than the baseline over 400 canary requests. Closest to a limit: ")


def test_one_request_short_of_the_minimum_is_inconclusive() -> None:
    rules = dataclasses.replace(RULES, minimum_requests=401)
    verdict = judge(window(steps(10, 0, 0)), rules)
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "Too little seen: 400 of 401 canary requests.")
    assert judge(window(steps(10, 0, 0)), dataclasses.replace(RULES, minimum_requests=400)).outcome == "pass"


def test_no_traffic_is_neither_good_nor_bad() -> None:
    verdict = judge(Window(), RULES)
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "Too little seen: 0 of 200 canary requests.")


@pytest.mark.parametrize("metric", ["errors", "cut_streams", "empty_answers"])
def test_a_metric_that_is_worse_fails_with_numbers(metric: Metric) -> None:
    verdict = judge(window(steps(20, 3, 0, metric=metric)), RULES)
    assert verdict.outcome == "fail"
    assert "canary 60 of 800 (7.5 %), baseline 0 of 800 (0 %), allowed 0.5 points more" in verdict.reason
    assert verdict.reason.endswith("in 20 time slices.")


def test_within_the_tolerance_is_good_enough() -> None:
    assert judge(window(steps(60, 2, 1, metric="slow_ttft")), RULES).outcome == "pass"
    assert judge(window(steps(60, 6, 1, metric="slow_ttft")), RULES).outcome == "fail"


def test_worse_but_not_certain_holds() -> None:
    verdict = judge(window(steps(6, 1, 0)), RULES)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("Worse so far, not yet certain: requests that failed: canary 6 of 240 (2.5 %)")


def test_obviously_broken_needs_no_statistics() -> None:
    assert judge(window(steps(1, 10, 0, of=40)), RULES).reason.startswith("Obviously broken: ")
    assert judge(window(steps(1, 9, 0, of=40)), RULES).outcome == "inconclusive"
    assert judge(window(steps(2, 5, 0, of=50)), RULES).outcome == "inconclusive", "10 of 100 is no fifth"


def test_a_dead_canary_fails_though_nobody_counts() -> None:
    verdict = judge(Window(dead="its engine is down on lb1 and lb2", unreachable="lb2 does not answer"), RULES)
    assert (verdict.outcome, verdict.reason) == ("fail", "The canary serves nobody: its engine is down on lb1 and lb2.")


def test_who_cannot_be_asked_is_no_verdict_on_the_canary() -> None:
    verdict = judge(window(steps(20, 3, 0), unreachable="Prometheus on lb2: connection refused"), RULES)
    assert verdict.outcome == "source_unreachable"
    assert "Prometheus on lb2: connection refused" in verdict.reason


def test_bad_events_of_one_moment_are_one_event() -> None:
    quiet = steps(30, 0, 0, metric="slow_ttft")
    stall = steps(1, 38, 0, metric="slow_ttft")
    assert judge(window([*quiet, *stall]), STRICT).outcome != "fail"
    spread = steps(30, 2, 0, metric="slow_ttft")
    assert judge(window(spread), STRICT).outcome == "fail"


def test_a_metric_that_is_only_measured_is_shown_and_does_not_decide() -> None:
    rules = dataclasses.replace(RULES, measured_only=frozenset({"errors"}))
    verdict = judge(window(steps(20, 3, 0)), rules)
    assert verdict.outcome == "pass"
    assert verdict.findings[0].certain


def test_an_slo_that_only_the_canary_misses_fails_and_one_that_both_miss_holds() -> None:
    rules = dataclasses.replace(RULES, tolerances={"slow_ttft": 0.5}, limits={"slow_ttft": 0.05})
    assert judge(window(steps(40, 8, 1, metric="slow_ttft")), rules).outcome == "fail"
    both = judge(window(steps(40, 8, 8, metric="slow_ttft")), rules)
    assert both.outcome == "inconclusive"
    assert both.reason.startswith("The service itself misses its SLO: ")


def test_a_window_in_which_the_split_drifted_is_not_judged() -> None:
    drifted = [dataclasses.replace(one, canary_requests=80, baseline_requests=20) for one in steps(5, 0, 0)]
    verdict = judge(window(drifted), RULES)
    assert verdict.outcome == "inconclusive"
    assert "the canary got 400 of 500 requests (80 % instead of 50 %)" in verdict.reason


def test_void_slices_do_not_count_and_are_told() -> None:
    broken = steps(20, 3, 0, void="the engine's counters began anew")
    verdict = judge(window([*broken, *steps(2, 0, 0)]), RULES)
    assert verdict.reason == (
        "Too little seen: 80 of 200 canary requests (20 of 22 time slices are void: the engine's counters began anew)."
    )


def test_strata_are_compared_with_their_like() -> None:
    """Long prompts are slower, and the canary got more of them by chance: that is no fault of its own."""
    cells = [
        Cell(Tally(1, 50), Tally(2, 100), "short"),
        Cell(Tally(40, 100), Tally(20, 50), "long"),
    ]
    seen = window([Slice({"slow_ttft": cells}, 150, 150) for _ in range(20)])
    assert judge(seen, STRICT).outcome == "pass"
    pooled = [Cell(Tally(41, 150), Tally(22, 150))]
    assert judge(window([Slice({"slow_ttft": pooled}, 150, 150) for _ in range(20)]), STRICT).outcome == "fail"


COUNTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30)


def window_of(counts: Sequence[tuple[int, int]]) -> Window:
    return window([Slice({"errors": [Cell(Tally(x, 100), Tally(y, 100))]}, 100, 100) for x, y in counts])


@given(counts=COUNTS, where=st.integers(0, 29), more=st.integers(1, 40))
def test_more_bad_events_never_turn_a_fail_into_a_pass(counts: list[tuple[int, int]], where: int, more: int) -> None:
    before = judge(window_of(counts), RULES)
    number = where % len(counts)
    worse = [(x + more if number == place else x, y) for place, (x, y) in enumerate(counts)]
    after = judge(window_of(worse), RULES)
    if before.outcome == "fail":
        assert after.outcome != "pass"
    if after.outcome == "pass":
        assert before.outcome == "pass"


@given(counts=COUNTS, seed=st.integers(0, 99))
def test_the_order_of_cells_and_looks_does_not_matter(counts: list[tuple[int, int]], seed: int) -> None:
    """Looking in between changes nothing, nor does it in which cells of a slice the same events are counted."""
    for number in range(len(counts)):
        judge(window_of(counts[: number + 1]), RULES)
    draw = random.Random(seed)
    split = []
    for x, y in counts:
        part = draw.randint(0, x)
        cells = [Cell(Tally(part, 50), Tally(y, 50)), Cell(Tally(x - part, 50), Tally(0, 50))]
        split.append(Slice({"errors": cells}, 100, 100))
    assert judge(window(split), RULES) == judge(window_of(counts), RULES)


def first_fail(world: World, seed: int, rules: Rules) -> int:
    """After how many slices the judge, asked after each one, says fail; 0: never."""
    seen = Window(world.share)
    for one in slices(world, seed):
        seen = seen.plus(one)
        if judge(seen, rules).outcome == "fail":
            return seen.slices
    return 0


TIMED = Rules(tolerances={}, false_rollback=0.01, measured_only=frozenset(set(METRICS) - {"slow_ttft"}))


def test_equal_releases_are_not_taken_back_for_bursts() -> None:
    """Asked after each slice of bursty traffic with stalls. The bench looks at a thousand runs."""
    runs = 200
    false = sum(first_fail(World(slices=60), seed, TIMED) > 0 for seed in range(runs))
    assert false <= 4


def test_twice_as_slow_is_found() -> None:
    found = [first_fail(World(factor=2, rate=0.05, stall=0), seed, TIMED) for seed in range(20)]
    assert all(found)
    assert sorted(found)[10] < 60


def test_a_count_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bad events of 2 requests"):
        Tally(3, 2)
