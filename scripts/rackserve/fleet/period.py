"""Times as operators write them: 90s, 15m, 1h, 7d."""

import datetime
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


def words(seconds: float) -> str:
    """In its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 12 d 3 h."""
    left = int(max(seconds, 0))
    found: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount or (unit == "s" and not found):
            found.append(f"{amount} {unit}")
    return " ".join(found[:2])


def moment_of(text: str, now: float) -> int:
    """`14:30` (the next one), or a day and a time as ISO 8601 writes them; UTC where no zone is said. Seconds since 1970.

    Raises ValueError with what is allowed.
    """
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text):
            hour, minute = map(int, text.split(":"))
            today = datetime.datetime.fromtimestamp(now, datetime.UTC)
            found = today.replace(hour=hour, minute=minute, second=0, microsecond=0)
            if found.timestamp() <= now:
                found += datetime.timedelta(days=1)
        else:
            found = datetime.datetime.fromisoformat(text)
            found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    except ValueError:
        raise ValueError(f"{text!r} is no moment: 14:30 or 2026-11-29T14:30, in UTC unless a zone follows") from None
    if not now < found.timestamp() <= now + LONGEST_SECONDS:
        raise ValueError(f"{text!r} is not within the next {LONGEST_SECONDS // 86_400} days")
    return int(found.timestamp())
