"""Burn windows of SLO alerts and the factors that follow from an SLO's window. Pure.

Source: Google, The Site Reliability Workbook, chapter 5, "Multiwindow, multi-burn-rate alerts": a page when 2 % of the
budget went in 1 h or 5 % in 6 h, a ticket when 10 % went in 1 day or in 3 days; the short window, a twelfth of the long
one, ends an alert soon after the burn has ended. Over 30 days the factors are 14.4, 6, 3 and 1.
"""

from dataclasses import dataclass
from typing import Literal

DAY_SECONDS = 86_400
Severity = Literal["page", "ticket"]


@dataclass(frozen=True)
class Pair:
    """An alert fires while both windows burn faster than the factor."""

    severity: Severity
    long_seconds: int
    short_seconds: int
    budget_percent: int


PAIRS = (
    Pair("page", 3_600, 300, 2),
    Pair("page", 21_600, 1_800, 5),
    Pair("ticket", 86_400, 7_200, 10),
    Pair("ticket", 259_200, 21_600, 10),
)
LONGEST_DAYS = max(pair.long_seconds for pair in PAIRS) // DAY_SECONDS


def share_factor(pair: Pair, window_days: int) -> float:
    """The burn rate that spends the pair's share of the budget in its long window. 1 spends all in the SLO's window."""
    return pair.budget_percent * window_days * DAY_SECONDS / (100 * pair.long_seconds)


def factor(pair: Pair, window_days: int) -> float:
    """As share_factor, but never below 1: a budget that lasts its window is no reason for an alert."""
    return max(1.0, share_factor(pair, window_days))


def can_fire(pair: Pair, window_days: int, objective_percent: float) -> bool:
    """Whether a full outage burns faster than the factor; with a wide budget it does not spend the share so soon."""
    return factor(pair, window_days) * (100 - objective_percent) / 100 < 1


def pairs(alert: str, window_days: int, objective_percent: float) -> tuple[Pair, ...]:
    """The pairs of an SLO: those that its `alert` asks for and that can fire."""
    wanted = {"page_and_ticket": ("page", "ticket"), "ticket": ("ticket",)}.get(alert, ())
    return tuple(pair for pair in PAIRS if pair.severity in wanted and can_fire(pair, window_days, objective_percent))
