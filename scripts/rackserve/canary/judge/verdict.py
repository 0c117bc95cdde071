"""From counts to one of four outcomes, each with a sentence that says why, with numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rackserve.canary.judge.counts import METRICS, Account, Metric, Tally, Window
from rackserve.canary.judge.evidence import log_e_above, log_e_drifted, log_e_worse
from rackserve.canary.judge.rules import SPLIT_ALPHA, Rules

Outcome = Literal["pass", "fail", "inconclusive", "source_unreachable"]
WORDS: dict[Metric, str] = {
    "errors": "requests that failed",
    "cut_streams": "streams that were cut",
    "empty_answers": "answers without text",
    "slow_ttft": "first tokens over the limit",
    "slow_inter_token": "token gaps over the limit",
}


@dataclass(frozen=True)
class Finding:
    """One metric. `log_e` and `log_limit` (natural logarithms): against the baseline; `log_e_absolute`: against the SLO.

    `worse`: the canary's rate is above the baseline's plus the tolerance, whether that is certain or not.
    """

    metric: Metric
    decides: bool
    canary: Tally
    baseline: Tally
    tolerance: float
    slices: int
    dispersion: float
    log_e: float
    log_e_absolute: float
    log_limit: float
    worse: bool
    missed_by_both: bool

    @property
    def certain(self) -> bool:
        return max(self.log_e, self.log_e_absolute) >= self.log_limit

    def sentence(self) -> str:
        said = f"{WORDS[self.metric]}: canary {_rate(self.canary)}, baseline {_rate(self.baseline)}"
        evidence = max(self.log_e, self.log_e_absolute)
        return (
            f"{said}, allowed {100 * self.tolerance:.2g} points more; evidence {_e(evidence)} of {_e(self.log_limit)}"
        )


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    reason: str
    findings: Sequence[Finding] = ()


def judge(window: Window, rules: Rules) -> Verdict:
    """Looks at everything seen so far in one step; may be asked at any time and as often as one likes."""
    findings = tuple(_finding(window, rules, metric) for metric in METRICS)
    if window.dead:
        return Verdict("fail", f"The canary serves nobody: {window.dead}.", findings)
    if window.unreachable:
        return Verdict("source_unreachable", f"Nobody says what happens: {window.unreachable}.", findings)
    errors = findings[0]
    if errors.canary.bad >= rules.dead_errors and errors.canary.bad > rules.dead_share * errors.canary.of:
        return Verdict("fail", f"Obviously broken: {errors.sentence()}.", findings)
    if drifted := _drifted(window):
        return Verdict("inconclusive", drifted, findings)
    deciding = [one for one in findings if one.decides]
    for one in deciding:
        if (
            one.certain
            and one.slices >= rules.minimum_slices
            and not (one.missed_by_both and one.log_e < one.log_limit)
        ):
            return Verdict("fail", f"Worse than allowed: {one.sentence()}, in {one.slices} time slices.", findings)
    return _not_failed(window, rules, findings, deciding)


def _not_failed(window: Window, rules: Rules, findings: tuple[Finding, ...], deciding: list[Finding]) -> Verdict:
    seen = window.canary_requests
    if seen < rules.minimum_requests:
        voided = sum(window.void.values())
        void = f" ({voided} of {window.slices} time slices are void: {', '.join(window.void)})" if voided else ""
        return Verdict(
            "inconclusive", f"Too little seen: {seen} of {rules.minimum_requests} canary requests{void}.", findings
        )
    if both := next((one for one in deciding if one.missed_by_both), None):
        return Verdict("inconclusive", f"The service itself misses its SLO: {both.sentence()}.", findings)
    if doubtful := next((one for one in deciding if one.worse), None):
        return Verdict("inconclusive", f"Worse so far, not yet certain: {doubtful.sentence()}.", findings)
    closest = max(deciding, key=lambda one: max(one.log_e, one.log_e_absolute) / one.log_limit, default=None)
    about = f" Closest to a limit: {closest.sentence()}." if closest else " No metric decides."
    return Verdict("pass", f"No worse than the baseline over {seen} canary requests.{about}", findings)


def _finding(window: Window, rules: Rules, metric: Metric) -> Finding:
    tolerance, limit, account = rules.tolerances.get(metric, 0.0), rules.limits.get(metric), window.of(metric)
    bursts = account.dispersion()
    return Finding(
        metric=metric,
        decides=metric not in rules.measured_only,
        canary=account.canary,
        baseline=account.baseline,
        tolerance=tolerance,
        slices=account.slices,
        dispersion=bursts,
        log_e=log_e_worse(account, tolerance),
        log_e_absolute=log_e_above(account.canary, limit, bursts) if limit else 0.0,
        log_limit=-math.log(rules.alpha),
        worse=_worse(account, tolerance),
        missed_by_both=limit is not None and _above(account.canary, limit) and _above(account.baseline, limit),
    )


def _worse(account: Account, tolerance: float) -> bool:
    return account.canary.bad > account.share(tolerance) * (account.canary.bad + account.allowed(tolerance))


def _above(tally: Tally, limit: float) -> bool:
    return tally.bad > limit * tally.of


def _drifted(window: Window) -> str:
    """Requests are drawn at random, so the split itself is a test that something else than chance assigned them."""
    canary, both = window.canary_requests, window.canary_requests + window.baseline_requests
    evidence = log_e_drifted(canary, both - canary, window.canary_share) if both else 0.0
    if evidence < -math.log(SPLIT_ALPHA):
        return ""
    return (
        f"The split is not the one declared: the canary got {canary} of {both} requests ({100 * canary / both:.3g} % "
        f"instead of {100 * window.canary_share:.3g} %), so the tracks cannot be compared."
    )


def _rate(tally: Tally) -> str:
    return f"{tally.bad} of {tally.of} ({100 * tally.bad / tally.of:.2g} %)" if tally.of else "none seen"


def _e(logarithm: float) -> str:
    """An e-value as a person reads it."""
    return f"{math.exp(logarithm):.3g}" if logarithm < 30 else f"1e{logarithm / math.log(10):.0f}"
