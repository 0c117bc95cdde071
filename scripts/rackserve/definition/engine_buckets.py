"""Edges of vLLM's histograms: its own, and those that it is given because an SLO's threshold lies on none of them. Pure.

A percentile or a share at a threshold is exact on an edge and a guess beside it; vLLM's own edges are far apart.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rackserve.definition.models.observe import Slo

FLAG = "custom-histogram-buckets"
_SETTABLE_FROM = (0, 32)


@dataclass(frozen=True)
class Family:
    """Histograms that share their edges. `name`: vLLM's word for them; `edges`: vLLM's own (0.31, 0.32), in seconds."""

    name: str
    edges: tuple[float, ...]


_FIRST_TOKEN = Family(
    "time_to_first_token",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
_INTER_TOKEN = Family(
    "inter_token_latency",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80),
)
_REQUEST = Family(
    "request_latency",
    (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),
)
FAMILIES: Mapping[str, Family] = {
    "ttft": _FIRST_TOKEN,
    "inter_token": _INTER_TOKEN,
    "queue_wait": _REQUEST,
    "response_time": _REQUEST,
}
# What an engine itself says about each indicator.
METRICS: Mapping[str, str] = {
    "ttft": "vllm:time_to_first_token_seconds",
    "inter_token": "vllm:inter_token_latency_seconds",
    "queue_wait": "vllm:request_queue_time_seconds",
    "response_time": "vllm:e2e_request_latency_seconds",
}


def settable(version: str) -> bool:
    """Whether this version of vLLM takes other edges. What is no version is taken as a new one."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= _SETTABLE_FROM


def thresholds(slos: Iterable[Slo], pool: str) -> dict[str, list[float]]:
    """By histogram of the pool's engines, the edges that its SLOs need, ascending."""
    found: dict[str, set[float]] = {}
    for slo in slos:
        if slo.pool == pool and slo.threshold_seconds is not None:
            found.setdefault(METRICS[slo.indicator], set()).add(slo.threshold_seconds)
    return {metric: sorted(values) for metric, values in sorted(found.items())}


def custom(slos: Iterable[Slo], pool: str) -> dict[str, list[float]]:
    """By family, all its edges, where a threshold lies on none of vLLM's own; the other families stay as they are."""
    found: dict[str, set[float]] = {}
    for slo in slos:
        if slo.pool != pool or slo.threshold_seconds is None:
            continue
        family = FAMILIES[slo.indicator]
        if slo.threshold_seconds not in family.edges:
            found.setdefault(family.name, {float(edge) for edge in family.edges}).add(slo.threshold_seconds)
    return {name: sorted(edges) for name, edges in sorted(found.items())}
