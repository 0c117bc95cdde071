"""What a run will take at today's traffic, told before it starts. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rackserve.canary.judge.counts import METRICS, Metric
from rackserve.canary.judge.estimate import Need, need
from rackserve.canary.judge.verdict import WORDS
from rackserve.canary.run.figures import equal_loads
from rackserve.canary.run.goto import begun
from rackserve.canary.run.plan import Level, Plan
from rackserve.canary.run.record import Moment, State

# Where nothing bad was seen in the past, something still may be: one in ten thousand.
_LEAST_RATE = 1e-4


@dataclass(frozen=True)
class Stretch:
    """One level. `least_seconds`: settling, the shortest observation, and until enough requests came; infinite without traffic.
    `found_seconds`: until a canary with twice the bad events and twice the tolerance is found, by metric; None: not within reason."""

    level: Level
    least_seconds: float
    found_seconds: Mapping[Metric, float | None]
    holds: bool


def forecast(plan: Plan, requests_per_second: float, rates: Mapping[Metric, float]) -> tuple[Stretch, ...]:
    """`requests_per_second` of the pool; `rates`: shares of bad requests of the past days, where they are known."""
    return tuple(_stretch(plan, number, level, requests_per_second, rates) for number, level in enumerate(plan.levels))


def _stretch(plan: Plan, number: int, level: Level, per_second: float, rates: Mapping[Metric, float]) -> Stretch:
    nowhere = Moment(boot="", seconds=0, wall=0)
    at = State.LOAD_PARITY if level.parity else State.STEP
    record = begun(nowhere).model_copy(update={"at": at, "level": number})
    rules = plan.rules(latency=equal_loads(plan, record))
    needs = {
        metric: _need(plan, level, metric, per_second, rates.get(metric, 0.0), rules.alpha) for metric in rules.deciding
    }
    requests = per_second * level.share.canary / 1000
    enough = plan.minimum_requests / requests if requests else math.inf
    return Stretch(
        level=level,
        least_seconds=plan.settle_seconds + max(plan.observe_seconds, enough),
        found_seconds={metric: needs[metric].detect_seconds for metric in METRICS if metric in needs},
        holds=enough > plan.observe_limit_seconds,
    )


def _need(plan: Plan, level: Level, metric: Metric, per_second: float, rate: float, alpha: float) -> Need:
    tolerance, canary = plan.tolerances.get(metric, 0.0), level.share.canary / 1000
    baseline = level.share.baseline / 1000 if plan.baseline else 1 - canary
    rate = min(max(rate, _LEAST_RATE), 0.5)
    factor = 2 * (rate + tolerance) / rate
    return need(
        requests_per_second=per_second, canary=canary, baseline=baseline, minimum=plan.minimum_requests, rate=rate,
        tolerance=tolerance, factor=min(factor, 1 / rate), alpha=alpha,
    )  # fmt: skip


def lines(plan: Plan, stretches: tuple[Stretch, ...], requests_per_second: float) -> tuple[str, ...]:
    """For people."""
    total = sum(one.least_seconds for one in stretches)
    found = [f"pool {plan.pool}: {requests_per_second:.3g} requests/s; the steps take {_span(total)} at least"]
    for one in stretches:
        gate = "" if one.level.gate is None else f"; waits for an approval of {one.level.gate:g} %"
        said = f"{one.level.name}: {_span(one.least_seconds)} at least{gate}"
        if one.holds:
            needed = plan.minimum_requests / plan.observe_limit_seconds / (one.level.share.canary / 1000)
            said += (
                f"; will hold: {plan.minimum_requests} canary requests within {_span(plan.observe_limit_seconds)} need "
                f"{needed:.3g} requests/s: wait for a busier hour"
            )
        found.append(said)
        told = {metric: seconds for metric, seconds in one.found_seconds.items() if seconds is not None}
        if told:
            worst = max(told, key=lambda metric: told[metric])
            found.append(
                f"  {WORDS[worst]} at twice what is allowed: found after {_span(told[worst])}; the other metrics sooner"
            )
    return tuple(found)


def _span(seconds: float) -> str:
    if math.isinf(seconds):
        return "for ever (no traffic)"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
