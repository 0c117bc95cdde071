"""The arithmetic: an e-value's mean is at most 1 where nothing is wrong, whatever the tolerance."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.canary.judge.counts import Account, Cell, Tally
from rackserve.canary.judge.evidence import log_e_above, log_e_mixture, log_e_worse

SHARES = st.floats(0.02, 0.98)


def account(canary: Tally, baseline: Tally, slices: int = 1) -> Account:
    """Both tracks' counts, evenly over so many slices."""
    found = Account()
    for _ in range(slices):
        found = found.plus([Cell(canary, baseline)])
    return found


def worse(x: int, y: int, tolerance: float, canary_of: int = 1000, baseline_of: int = 1000) -> float:
    return log_e_worse(account(Tally(x, canary_of), Tally(y, baseline_of)), tolerance)


@given(events=st.integers(0, 60), share=SHARES)
def test_its_mean_is_one_when_the_share_is_right(events: int, share: float) -> None:
    mean = sum(
        math.comb(events, canary) * share**canary * (1 - share) ** (events - canary)
        * math.exp(log_e_mixture(canary, events - canary, share))
        for canary in range(events + 1)
    )  # fmt: skip
    assert mean == pytest.approx(1)


def poisson(mean: float, count: int) -> float:
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


@pytest.mark.parametrize(("ratio", "times"), [(1.5, 1.2), (2, 1.2), (3, 1.5), (5, 1.5)])
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_it_needs_hardly_more_bad_events_than_theory_allows(ratio: float, times: float, share: float) -> None:
    """The least number is log(1/alpha) over the divergence of the two binomials."""
    odds = ratio * share / (1 - share)
    true = odds / (1 + odds)
    least = math.log(100) / (true * math.log(true / share) + (1 - true) * math.log((1 - true) / (1 - share)))
    draw, needed = random.Random(3), []
    for _ in range(61):
        canary = events = 0
        while canary <= share * events or log_e_mixture(canary, events - canary, share) < math.log(100):
            events += 1
            canary += draw.random() < true
            if events > 20 * least:
                break
        needed.append(events)
    assert sorted(needed)[30] <= times * least


@pytest.mark.parametrize("tolerance", [0.002, 0.01, 0.05])
@pytest.mark.parametrize("rate", [0.001, 0.02])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_its_mean_is_at_most_one_at_the_edge_of_the_tolerance(rate: float, tolerance: float, share: float) -> None:
    """The worst that is allowed: the canary's rate is the baseline's plus the tolerance."""
    requests = 600
    canary, baseline = round(requests * share), round(requests * (1 - share))
    ours, theirs = canary * (rate + tolerance), baseline * rate
    allowed = tolerance * baseline
    mean = sum(
        poisson(ours, x) * poisson(theirs, y) * math.exp(log_e_mixture(x, y + allowed, share))
        for x in range(150) for y in range(150)
    )  # fmt: skip
    assert mean <= 1.0000001


OF = st.integers(201, 5000)


@given(x=st.integers(0, 200), y=st.integers(0, 200), of=OF, tolerance=st.floats(0, 0.1))
def test_one_more_bad_answer_of_the_canary_is_never_less_evidence(x: int, y: int, of: int, tolerance: float) -> None:
    more, less = (worse(bad, y, tolerance, of) for bad in (x + 1, x))
    assert more >= less - 1e-9


@given(x=st.integers(1, 200), y=st.integers(0, 199), of=OF)
def test_one_more_of_the_baseline_is_never_more_evidence(x: int, y: int, of: int) -> None:
    more, less = (worse(x, bad, 0, of) for bad in (y + 1, y))
    assert more <= less + 1e-9


@given(x=st.integers(0, 200), y=st.integers(0, 200), of=OF)
def test_a_canary_that_is_no_worse_is_no_evidence(x: int, y: int, of: int) -> None:
    if x / of <= y / 1000:
        assert worse(x, y, 0, of) == 0


def test_zero_errors_of_the_baseline_are_no_obstacle() -> None:
    """With a tolerance of half a point 300 requests may fail once or twice, not twelve times."""
    assert worse(2, 0, 0.005, 300, 300) < math.log(2)
    assert worse(15, 0, 0.005, 300, 300) > math.log(100)


def test_an_absolute_limit_is_judged_without_a_baseline() -> None:
    assert log_e_above(Tally(10, 1000), 0.01) == 0
    assert log_e_above(Tally(40, 1000), 0.01) > math.log(1000)


@pytest.mark.parametrize(("canary", "others", "share"), [(1, 1, 0), (1, 1, 1), (-1, 1, 0.5)])
def test_what_is_no_count_is_refused(canary: int, others: int, share: float) -> None:
    with pytest.raises(ValueError, match="events with a share of"):
        log_e_mixture(canary, others, share)


def test_steady_events_are_not_dispersed_and_stalls_are() -> None:
    draw, quiet = random.Random(5), Tally(0, 100)
    steady, stalls = Account(), Account()
    for number in range(200):
        steady = steady.plus([Cell(Tally(sum(draw.random() < 0.05 for _ in range(100)), 100), quiet)])
        stalls = stalls.plus([Cell(quiet, Tally(50 if number % 20 == 0 else 0, 100))])
    assert steady.dispersion() < 1.3
    assert stalls.dispersion() > 30
    assert Account().dispersion() == account(Tally(0, 10), Tally(0, 10)).dispersion() == 1
    assert account(Tally(5, 10), Tally(5, 10)).dispersion() == 1, "one slice says nothing about how slices differ"


def test_dispersion_is_pearsons_statistic_over_its_degrees_of_freedom() -> None:
    counts = [(3, 50), (0, 20), (7, 90), (1, 40)]
    found = Account()
    for bad, of in counts:
        found = found.plus([Cell(Tally(bad, of), Tally(0, of))])
    rate = 11 / 200
    pearson = sum((bad - rate * of) ** 2 / (rate * of) for bad, of in counts) / 3
    assert found.dispersion() == pytest.approx(max(1, pearson))


def test_every_stratum_counts_with_the_part_it_really_had() -> None:
    cells = [Cell(Tally(1, 50), Tally(2, 100)), Cell(Tally(40, 100), Tally(20, 50))]
    assert Account().plus(cells).share(0) == pytest.approx((3 / 3 + 60 * 2 / 3) / 63)
    assert Account().plus(cells).share(0.1) == pytest.approx((1 + 40 + 0.1 * (100 / 3 + 50 * 2 / 3)) / (63 + 15))
