"""Planned ends as operators write them."""

import datetime

import pytest
from rackserve.fleet.period import moment_of, words

NOW = datetime.datetime(2026, 11, 29, 15, 0, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after_seconds"),
    [
        ("15:30", 1800),
        ("14:30", 84_600),
        ("15:00", 86_400),
        ("2026-11-29T16:00", 3600),
        ("2026-11-29 16:00:05", 3605),
        ("2026-11-29T17:00+01:00", 3600),
    ],
)
def test_a_moment_is_utc_unless_it_says_so(text: str, after_seconds: int) -> None:
    assert moment_of(text, NOW) == NOW + after_seconds


@pytest.mark.parametrize("text", ["soon", "25:00", "2026-11-29T14:59", "2027-11-29", "", "1:2"])
def test_what_is_no_moment_or_not_ahead_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no moment|not within the next 90 days"):
        moment_of(text, NOW)


def test_periods_in_words() -> None:
    assert [words(seconds) for seconds in (-1, 59.9, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]
