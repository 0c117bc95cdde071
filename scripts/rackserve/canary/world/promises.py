"""What the definition promises about a pool, as the judge's edges and limits. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rackserve.canary.judge.counts import Metric

_INDICATORS: Mapping[str, Metric] = {"ttft": "slow_ttft", "inter_token": "slow_inter_token"}


def edges(plan: Mapping[str, Any], pool: str) -> dict[Metric, dict[str, float]]:
    """Seconds, by metric and lane. Of several promises that with the highest share of good requests: the judge looks at tails."""
    found: dict[Metric, dict[str, float]] = {}
    for indicator, metric in _INDICATORS.items():
        for lane in plan["pools"][pool]["lanes"]:
            chosen = _of(plan, pool, indicator, lane)
            if chosen is not None:
                found.setdefault(metric, {})[lane] = float(chosen["threshold_seconds"])
    return found


def limits(plan: Mapping[str, Any], pool: str) -> dict[Metric, float]:
    """Shares of bad requests that no track may have, where an SLO says so. Of lanes that differ the widest."""
    found: dict[Metric, float] = {}
    for indicator, metric in (("availability", "errors"), *_INDICATORS.items()):
        chosen = [_of(plan, pool, indicator, lane) for lane in plan["pools"][pool]["lanes"]]
        allowed = [1 - float(one["objective_percent"]) / 100 for one in chosen if one is not None]
        if allowed and None not in chosen:
            found[metric] = max(allowed)
    return found


def _of(plan: Mapping[str, Any], pool: str, indicator: str, lane: str) -> Mapping[str, Any] | None:
    own: Sequence[Mapping[str, Any]] = [
        one
        for one in plan.get("slos") or []
        if one["pool"] == pool and one["indicator"] == indicator and one["lane"] in (None, lane)
    ]
    return max(own, key=lambda one: (one["lane"] is not None, float(one["objective_percent"])), default=None)
