"""Records -> the page of metrics. Names and labels are a promise to the rules of Prometheus."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rackserve.traffic_log import buckets
from rackserve.traffic_log.drawn import to_its_track
from rackserve.traffic_log.labels import NONE as NO_TRACK
from rackserve.traffic_log.labels import Labels
from rackserve.traffic_log.line import Request
from rackserve.traffic_log.maxima import Maxima
from rackserve.traffic_log.outcome import NONE, Outcome, active_ms, first_token_seen, outcome
from rackserve.traffic_log.settings import Indicator, Settings

PLACE = ("pool", "lane", "track", "tenant", "origin")
DRAWN = ("pool", "lane", "track", "came_to")
_TIMED: dict[Indicator, tuple[str, str]] = {
    "ttft": ("rackserve_time_to_first_token_seconds", "From the whole request to the first token of a stream"),
    "queue_wait": ("rackserve_queue_wait_seconds", "Wait for a slot: waiting room and queue"),
    "inter_token": ("rackserve_inter_token_seconds", "Mean time between two tokens of a stream"),
    "response_time": ("rackserve_response_seconds", "From the whole request to the last byte of a complete answer"),
}
_COUNTED = {"prompt_tokens": "Tokens of a prompt", "reply_tokens": "Tokens of a reply"}


class _LastMinute(Collector):
    """Gauges of what Maxima hold."""

    def __init__(self, maxima: dict[str, Maxima], clock: Callable[[], float]) -> None:
        self._maxima, self._clock = maxima, clock

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, maxima in self._maxima.items():
            family = GaugeMetricFamily(f"{name}_max", "Largest of the last minute", labels=PLACE)
            for labels, value in maxima.last_minute(self._clock()).items():
                family.add_metric(labels, value)
            yield family


class Metrics:
    """Its own registry. One thread adds, others may read the page."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic, program: str = "none") -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._children: dict[tuple[Any, ...], Any] = {}
        self._histograms: dict[str, Histogram] = {}
        self._edges: dict[str, tuple[float, ...]] = {}
        ProcessCollector(registry=self.registry)
        self._running = Info("rackserve_log_service", "Which program runs, with which settings", registry=self.registry)
        self._program = program
        self.requests = self._counter(
            "requests", "Requests by how they ended", *PLACE[:4], "scenario", "endpoint", "outcome", "origin"
        )
        self.refusals = self._counter(
            "refusals", "What the balancer refused itself", "pool", "lane", "tenant", "reason"
        )
        self.drawn = self._counter(
            "drawn_requests", "Requests by the track that was drawn for them, whoever served them", *DRAWN
        )
        self.tokens = self._counter(
            "tokens", "Tokens as engines said, or estimated", *PLACE[:4], "direction", "estimated"
        )
        self.lines = self._counter("log_lines", "Lines that came", "state")
        self.lost = self._counter("log_lines_lost", "Lines that never came, by HAProxy's own counter")
        self.unwritten = self._counter("log_lines_unwritten", "Lines that no file has, because it could not be written")
        for state in ("read", "garbage", "notice"):
            self.lines.labels(state)
        names = [name for name, _ in _TIMED.values()] + [f"rackserve_{name}" for name in _COUNTED]
        self._maxima = {name: Maxima() for name in names}
        self.registry.register(_LastMinute(self._maxima, clock))
        self.use(settings)

    def use(self, settings: Settings) -> list[str]:
        """Counters go on; a histogram whose edges change begins anew. Returns the names of those."""
        self._labels = Labels(settings)
        self._running.info({"node": settings.node, "program": self._program, "settings": settings.version})
        self._silence_ms = {
            name: None if pool.silence_seconds is None else pool.silence_seconds * 1000
            for name, pool in settings.pools.items()
        }
        self._classes = settings.reply_classes
        changed = []
        for indicator, (name, text) in _TIMED.items():
            more = ("reply",) if indicator == "response_time" else ()
            if self._histogram(name, text, (*PLACE, *more), settings.edges[indicator]):
                changed.append(name)
        for short, text in _COUNTED.items():
            self._histogram(f"rackserve_{short}", text, PLACE, buckets.TOKENS)
        return changed

    def add(self, request: Request) -> None:
        came_to = outcome(request, self._silence_ms.get(request.pool))
        place = self._labels.place(request)
        pool, lane, _, tenant, origin = place
        scenario, endpoint = self._labels.scenario(request), self._labels.endpoint(request)
        counted = (*place[:4], scenario, endpoint, came_to.value, origin)
        if (id(self.requests), counted) not in self._children:
            # Every way to end begins at 0, or `increase` would not see the first failure.
            for other in Outcome:
                self._child(self.requests, (*place[:4], scenario, endpoint, other.value, origin))
        self._child(self.requests, counted).inc()
        reason = request.refused
        if reason == NONE and came_to is Outcome.REFUSED and request.ending == "sQ":
            reason = "queue_timeout"
        if reason != NONE:
            self._child(self.refusals, (pool, lane, tenant, self._labels.reason(reason))).inc()
        if origin != "probe" and place[2] != NO_TRACK:
            drawn = self._labels.drawn(request)
            self._child(self.drawn, (pool, lane, drawn, to_its_track(request, came_to, drawn, reason))).inc()
        self._add_tokens(request, place)
        self._add_times(request, place, came_to)

    def _add_tokens(self, request: Request, place: tuple[str, ...]) -> None:
        estimated = "true" if request.tokens_estimated else "false"
        for direction, amount in (("prompt", request.prompt_tokens), ("reply", request.reply_tokens)):
            if amount > 0:
                self._child(self.tokens, (*place[:4], direction, estimated)).inc(amount)
                self._observe(f"rackserve_{direction}_tokens", place, amount)

    def _add_times(self, request: Request, place: tuple[str, ...], came_to: Outcome) -> None:
        if request.queue_ms >= 0:
            wait = request.queue_ms + max(request.room_ms, 0)
            self._observe("rackserve_queue_wait_seconds", place, wait / 1000)
        if request.stream and first_token_seen(request):
            first = request.first_token_ms
            if first is None or first < 0:
                first = _sum_of(request.room_ms, request.queue_ms, request.connect_ms, request.headers_ms)
            self._observe("rackserve_time_to_first_token_seconds", place, first / 1000)
            talked = _talked_ms(request)
            if request.reply_tokens > 1 and talked is not None:
                self._observe("rackserve_inter_token_seconds", place, talked / (request.reply_tokens - 1) / 1000)
        if came_to is Outcome.OK and request.headers_ms >= 0:
            reply = buckets.reply_class(self._classes, request.reply_tokens)
            self._observe("rackserve_response_seconds", place, active_ms(request) / 1000, reply)

    def _observe(self, name: str, place: tuple[str, ...], value: float, *more: str) -> None:
        self._child(self._histograms[name], (*place, *more)).observe(value)
        self._maxima[name].saw(place, value, self._clock())

    def _child(self, metric: Counter | Histogram, labels: tuple[str, ...]) -> Any:
        """The library's own look-up makes strings and takes a lock each time."""
        key = (id(metric), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"rackserve_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], edges: tuple[float, ...]) -> bool:
        """True: there was one with other edges, which is gone."""
        old = self._histograms.get(name)
        if old is not None and self._edges[name] == edges:
            return False
        if old is not None:
            self.registry.unregister(old)
            self._children = {key: child for key, child in self._children.items() if key[0] != id(old)}
        self._histograms[name] = Histogram(name, text, labels, registry=self.registry, buckets=edges)
        self._edges[name] = edges
        return old is not None


def _sum_of(*milliseconds: int) -> int:
    return sum(max(one, 0) for one in milliseconds)


def _talked_ms(request: Request) -> int | None:
    """From the first token to the last; from the headers on where the balancer does not say it."""
    first, last = request.first_token_ms, request.last_token_ms
    if first is not None and last is not None:
        return last - first if 0 <= first <= last else None
    return request.data_ms if request.data_ms >= 0 else None
