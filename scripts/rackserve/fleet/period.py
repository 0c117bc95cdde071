"""Times as operators write them: 90s, 15m, 1h, 7d."""

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PERIOD = re.compile(r"(?P<amount>[1-9]\d{0,6})(?P<unit>[smhd])")
LONGEST_SECONDS = 90 * 86_400


def seconds_of(text: str) -> int:
    """Raises ValueError with what is allowed."""
    match = _PERIOD.fullmatch(text)
    found = int(match["amount"]) * _UNITS[match["unit"]] if match else 0
    if not 0 < found <= LONGEST_SECONDS:
        raise ValueError(f"{text!r} is no time: a whole number with s, m, h or d, such as 15m or 2h, up to 90d")
    return found
