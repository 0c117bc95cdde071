"""What a step will need, told before it starts: how long until enough is seen, and how long until a bad canary is found."""

import math
from dataclasses import dataclass

from rackserve.canary.judge.evidence import log_e_mixture

# Beyond this many bad events nobody waits; the step holds before.
_MOST_EVENTS = 20_000


@dataclass(frozen=True)
class Need:
    """Seconds at the traffic that was assumed. `detect_seconds` None: not found within any reasonable time."""

    enough_seconds: float
    bad_events: int | None
    detect_seconds: float | None


def need(
    *, requests_per_second: float, canary: float, baseline: float, minimum: int, rate: float, tolerance: float,
    factor: float, alpha: float
) -> Need:  # fmt: skip
    """For one metric. `canary`, `baseline`: their shares of all requests; `rate`: the baseline's share of bad ones; `factor`: by
    how much the canary is worse that should be found; `minimum`: canary requests before a step may pass.

    The typical case: as many bad events of each track as are expected. Raises ValueError where a share or rate is not between 0 and 1.
    """
    for name, value in (("canary", canary), ("baseline", baseline), ("rate", rate), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value}: expected a number between 0 and 1")
    share = canary / (canary + baseline)
    per_second = requests_per_second * canary
    ours, theirs = canary * rate * factor, baseline * (rate + tolerance)
    enough = minimum / per_second if per_second else math.inf
    if ours / (ours + theirs) <= share or not per_second:
        return Need(enough, None, None)
    events = _needed(ours / (ours + theirs), share, -math.log(alpha))
    if events is None:
        return Need(enough, None, None)
    seen = events * (ours + baseline * rate) / (ours + theirs)
    return Need(enough, round(seen), seen / (requests_per_second * (ours + baseline * rate)))


def _needed(part: float, share: float, limit: float) -> int | None:
    """The fewest events, of which the canary has its expected part, with enough evidence. Evidence grows with their number."""
    low, high = 1, 2
    while log_e_mixture(part * high, (1 - part) * high, share) < limit:
        low, high = high, high * 2
        if high > _MOST_EVENTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = log_e_mixture(part * middle, (1 - part) * middle, share) >= limit
        low, high = (low, middle) if enough else (middle, high)
    return high
