"""From the page of a balancer's log service to the sums that the judge compares. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from rackserve.canary.judge.counts import Metric
from rackserve.canary.run.world import Source, Track

DRAWN = "rackserve_drawn_requests_total"
_TIMED: Mapping[Metric, str] = {
    "slow_ttft": "rackserve_time_to_first_token_seconds",
    "slow_inter_token": "rackserve_inter_token_seconds",
}
NAMES = (DRAWN, *(f"{name}_bucket" for name in _TIMED.values()), *(f"{name}_count" for name in _TIMED.values()))
_PROCESS = "process_start_time_seconds"
_ERRORS = frozenset({"engine_error", "timeout", "unreachable", "queue_timeout", "missed"})
_ANSWERED = frozenset({"ok", "empty"})
# What clients left may have become anything; it is no error.
_LEFT = frozenset({"client_gone_before", "client_gone_after"})

Edges = Mapping[Metric, Mapping[str, float]]


class NoFigures(Exception):
    """The page cannot be what it should be. Says why."""


@dataclass
class _Sums:
    """Track -> stratum -> (bad, of). A stratum is a lane."""

    found: dict[Metric, dict[Track, dict[str, tuple[int, int]]]] = field(default_factory=dict)

    def add(self, metric: Metric, track: Track, lane: str, bad: float, of: float) -> None:
        strata = self.found.setdefault(metric, {}).setdefault(track, {})
        before = strata.get(lane, (0, 0))
        strata[lane] = (before[0] + round(bad), before[1] + round(of))


def source(page: str, edges: Edges) -> Source:
    """`edges`: in seconds, by metric and lane; a lane without one is not judged by it. Raises NoFigures."""
    epoch, requests, sums = "", dict[Track, int](), _Sums()
    for name, labels, value in _samples(page):
        if name == _PROCESS:
            epoch = f"{value:.3f}"
            continue
        track = _track(labels.get("track", ""))
        if track is None:
            continue
        if name == DRAWN:
            requests[track] = requests.get(track, 0) + round(value)
            _drawn(sums, track, labels["lane"], labels["came_to"], value)
        elif labels.get("origin") != "probe":
            _timed(sums, edges, name, track, labels, value)
    if not epoch:
        raise NoFigures("its page does not say when the log service was started")
    return Source(epoch, requests, sums.found)


def _samples(page: str) -> Iterable[tuple[str, Mapping[str, str], float]]:
    try:
        for family in text_string_to_metric_families(page if page.endswith("\n") else f"{page}\n"):
            for one in family.samples:
                yield one.name, one.labels, one.value
    except (ValueError, IndexError) as error:
        raise NoFigures(f"its page cannot be read: {error}") from error


def _track(label: str) -> Track | None:
    return next((track for track in _TRACKS if track == label), None)


_TRACKS: tuple[Track, ...] = ("stable", "baseline", "canary")


def _drawn(sums: _Sums, track: Track, lane: str, came_to: str, number: float) -> None:
    bad = number if came_to in _ERRORS else 0
    if came_to in _ERRORS | _ANSWERED | _LEFT or came_to == "cut":
        sums.add("errors", track, lane, bad, number)
    if came_to in _ANSWERED or came_to == "cut":
        sums.add("cut_streams", track, lane, number if came_to == "cut" else 0, number)
    if came_to in _ANSWERED:
        sums.add("empty_answers", track, lane, number if came_to == "empty" else 0, number)


def _timed(sums: _Sums, edges: Edges, name: str, track: Track, labels: Mapping[str, str], number: float) -> None:
    lane = labels["lane"]
    for metric, family in _TIMED.items():
        edge = edges.get(metric, {}).get(lane)
        if edge is None:
            continue
        if name == f"{family}_count":
            sums.add(metric, track, lane, number, number)
        elif name == f"{family}_bucket" and math.isclose(float(labels["le"]), edge):
            # Those within the edge were counted as bad with all the others.
            sums.add(metric, track, lane, -number, 0)
