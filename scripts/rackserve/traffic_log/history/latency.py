"""Where the time of many requests went: exact percentiles of each stage, by lane. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rackserve.traffic_log.history.stages import STAGES, stages
from rackserve.traffic_log.line import Request
from rackserve.traffic_log.outcome import NONE, Outcome, outcome

TOTAL = "total"
ALL_LANES = "all"
_ANSWERED = (Outcome.OK, Outcome.CLIENT_GONE_AFTER)


@dataclass(frozen=True)
class Spent:
    """Seconds in one stage, over the requests that reached it. `share_ratio`: of all time that all requests took."""

    stage: str
    requests: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    max_seconds: float
    share_ratio: float


@dataclass(frozen=True)
class Lane:
    """Answered requests of one lane; `others`: how many ended otherwise, and how."""

    lane: str
    requests: int
    mean_seconds: float
    stages: tuple[Spent, ...]
    total: Spent | None
    others: dict[str, int]


class _Times:
    """Seconds by stage, without the requests themselves: there may be very many."""

    def __init__(self) -> None:
        self.by_stage: dict[str, list[float]] = defaultdict(list)
        self.others: Counter[str] = Counter()

    def add(self, request: Request) -> None:
        for stage in stages(request):
            self.by_stage[stage.name].append(stage.milliseconds / 1000)
        self.by_stage[TOTAL].append(max(request.total_ms, 0) / 1000)

    def lane(self, name: str) -> Lane:
        totals = self.by_stage[TOTAL]
        whole = sum(totals)
        found = tuple(_spent(stage, self.by_stage[stage], whole) for stage in STAGES if self.by_stage[stage])
        total = _spent(TOTAL, totals, whole) if totals else None
        others = dict(sorted(self.others.items()))
        return Lane(name, len(totals), whole / len(totals) if totals else 0.0, found, total, others)


def by_lane(requests: Iterable[Request], silence_ms: float | None = None) -> tuple[Lane, ...]:
    """Clients' requests only; all lanes together first, where there are several."""
    times: dict[str, _Times] = defaultdict(_Times)
    for request in requests:
        if not asked_by_a_client(request):
            continue
        came_to = outcome(request, silence_ms)
        if came_to in _ANSWERED:
            times[request.lane].add(request)
        else:
            times[request.lane].others[came_to.value] += 1
    each = tuple(times[lane].lane(lane) for lane in sorted(times))
    if len(each) < 2:
        return each
    together = _Times()
    for one in times.values():
        together.others += one.others
        for stage, values in one.by_stage.items():
            together.by_stage[stage] += values
    return (together.lane(ALL_LANES), *each)


def asked_by_a_client(request: Request) -> bool:
    """Lines from before the balancer said so: the lane `internal` is the rack's own."""
    return request.origin == "client" or (request.origin == NONE and request.lane != "internal")


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Nearest rank: a value that occurred, and no less than `percent` of all."""
    return ascending[max(math.ceil(len(ascending) * percent / 100) - 1, 0)]


def _spent(stage: str, values: list[float], whole: float) -> Spent:
    values.sort()
    p50, p95, p99 = (percentile(values, percent) for percent in (50, 95, 99))
    return Spent(stage, len(values), p50, p95, p99, values[-1], sum(values) / whole if whole else 0.0)
