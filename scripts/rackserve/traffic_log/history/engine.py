"""The engines' own view of a pool, from vLLM's histograms in Prometheus. Pure.

Means and shares are exact. Percentiles are estimates within a bucket, and vLLM's lowest one ends at 0.3 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rackserve.fleet.prometheus import Answer, Question

WHOLE = "vllm:e2e_request_latency_seconds"
STAGES: Mapping[str, str] = {
    "engine queue": "vllm:request_queue_time_seconds",
    "prefill": "vllm:request_prefill_time_seconds",
    "decode": "vllm:request_decode_time_seconds",
}
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1}


@dataclass(frozen=True)
class EngineSpent:
    """Seconds; `max_at_most_seconds` is the edge of the highest bucket that has something. Shares of all the engines' time."""

    stage: str
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    max_at_most_seconds: float | None
    share_ratio: float | None


def question(pool: str, since_seconds: int) -> Question:
    at = f'{{job="vllm",pool="{pool}"}}[{since_seconds}s]'
    asked = {"whole": f"sum(increase({WHOLE}_sum{at}))"}
    for stage, metric in STAGES.items():
        asked[f"{stage} sum"] = f"sum(increase({metric}_sum{at}))"
        asked[f"{stage} count"] = f"sum(increase({metric}_count{at}))"
        for name, quantile in _QUANTILES.items():
            asked[f"{stage} {name}"] = f"histogram_quantile({quantile}, sum by (le) (increase({metric}_bucket{at})))"
    return Question(asked)


def spent(answer: Answer) -> tuple[EngineSpent, ...]:
    """Empty where Prometheus has nothing of these engines in that time."""
    if not _number(answer, "whole"):
        return ()
    return tuple(_stage(answer, stage) for stage in STAGES)


def _stage(answer: Answer, stage: str) -> EngineSpent:
    p50, p95, p99, most = (_number(answer, f"{stage} {name}") for name in _QUANTILES)
    own, count, whole = (_number(answer, name) for name in (f"{stage} sum", f"{stage} count", "whole"))
    return EngineSpent(stage, _over(own, count), p50, p95, p99, most, _over(own, whole))


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _number(answer: Answer, name: str) -> float | None:
    return next((one.number for one in answer.of(name)), None)
