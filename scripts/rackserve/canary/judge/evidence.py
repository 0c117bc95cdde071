"""How strongly counts speak against "no worse": e-values, valid whenever one looks and however often.

Given how many bad events there are in both tracks together, the canary's part of them is binomial with the canary's share
of the requests if both have the same rate; an e-value is the likelihood under "a larger share" (a beta mixture) over that
under "no worse". Its mean under "no worse" is at most 1 at every moment, so by Ville's inequality it ever reaches 1/alpha
with a chance of at most alpha. Beta-binomial mixture: Howard, Ramdas, McAuliffe, Sekhon, Annals of Statistics 49 (2021);
counts conditional on their total: Lindon, Malek, NeurIPS 2022.
"""

import math
from collections.abc import Sequence

from rackserve.canary.judge.counts import Account, Tally

# (weight, odds against those of "no worse", events of prior): a canary that is twice as bad is expected with some certainty, a
# much worse one roughly. By simulation this needs 1.0 to 1.1 times the least number of bad events for 1.5 to 5 times as bad.
WORSE = ((0.5, 2.0, 60.0), (0.5, 5.0, 6.0))


def log_e_mixture(
    canary: float, others: float, share: float, parts: Sequence[tuple[float, float, float]] = WORSE
) -> float:
    """Logarithm of the e-value that the canary's part of events is not `share` but as `parts` expect. Events may be fractions.

    Both counts are >= 0 and 0 < share < 1, else ValueError.
    """
    if not 0 < share < 1 or canary < 0 or others < 0:
        raise ValueError(
            f"{canary} and {others} events with a share of {share}: counts are >= 0, the share between 0 and 1"
        )
    null = canary * math.log(share) + others * math.log(1 - share)
    terms = []
    for weight, odds, events in parts:
        expected = odds * share / (odds * share + 1 - share)
        a, b = events * expected, events * (1 - expected)
        terms.append(math.log(weight) + _log_beta(a + canary, b + others) - _log_beta(a, b) - null)
    highest = max(terms)
    return highest + math.log(sum(math.exp(term - highest) for term in terms))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_e_drifted(canary: int, others: int, share: float) -> float:
    """The same that the part is not `share`, to either side."""
    return log_e_mixture(canary, others, share, ((1.0, 1.0, 100.0),))


def log_e_worse(account: Account, tolerance: float) -> float:
    """Logarithm of the e-value against "the canary's rate is at most the baseline's plus `tolerance`" (a rate). 0 if it is not worse.

    The tolerance is given to the baseline as events: if Z were Poisson with mean tolerance * requests, then the baseline with Z
    more events and the canary would have equal rates at the edge of what is allowed. The e-value is convex in Z, so its mean
    with the expected number in place of Z is at most as large (Jensen): it stays valid, without a coin toss.
    Events of one cause count as one (Account.dispersion).
    """
    share, allowed, canary = account.share(tolerance), account.allowed(tolerance), account.canary.bad
    if not 0 < share < 1 or canary <= share * (canary + allowed):
        return 0.0
    bursts = account.dispersion()
    return max(0.0, log_e_mixture(canary / bursts, allowed / bursts, share))


def log_e_above(tally: Tally, limit: float, dispersion: float = 1.0) -> float:
    """Logarithm of the e-value against "the rate is at most `limit`". 0 if it is not above."""
    if not 0 < limit < 1 or tally.bad <= limit * tally.of:
        return 0.0
    return max(0.0, log_e_mixture(tally.bad / dispersion, (tally.of - tally.bad) / dispersion, limit))
