"""Burn factors against the table of the SRE workbook, and what has to hold for every window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.definition import burn


def test_over_thirty_days_the_factors_are_those_of_the_workbook() -> None:
    found = [(p.severity, p.long_seconds / 3600, p.short_seconds / 60, burn.factor(p, 30)) for p in burn.PAIRS]
    assert found == [("page", 1, 5, 14.4), ("page", 6, 30, 6), ("ticket", 24, 120, 3), ("ticket", 72, 360, 1)]


@given(st.integers(min_value=1, max_value=90))
def test_burning_at_the_share_factor_spends_exactly_the_share_of_the_budget(days: int) -> None:
    for pair in burn.PAIRS:
        spent = burn.share_factor(pair, days) * pair.long_seconds / (days * burn.DAY_SECONDS)
        assert spent == pytest.approx(pair.budget_percent / 100)


@given(st.integers(min_value=1, max_value=90))
def test_no_alert_comes_while_the_budget_lasts(days: int) -> None:
    assert all(burn.factor(pair, days) >= 1 for pair in burn.PAIRS)


def test_a_pair_that_a_full_outage_would_not_reach_is_left_out() -> None:
    """10 % of budget: an hour of outage spends 1.4 %, never the 2 % of the first pair."""
    assert [pair.long_seconds for pair in burn.pairs("page_and_ticket", 30, 90.0)] == [21_600, 86_400, 259_200]
    assert len(burn.pairs("page_and_ticket", 30, 99.0)) == 4


@pytest.mark.parametrize(("alert", "severities"), [("ticket", {"ticket"}), ("none", set())])
def test_the_slos_alert_decides_who_hears_of_it(alert: str, severities: set[str]) -> None:
    assert {pair.severity for pair in burn.pairs(alert, 30, 99.0)} == severities
