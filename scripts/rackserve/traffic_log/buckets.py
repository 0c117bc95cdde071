"""Edges of the histograms and classes of replies: base ladders and what the SLOs name. Pure.

An SLO's threshold is always an edge, because good requests are read from one bucket. The rules of Prometheus have to
name the same edges and classes.
"""

from collections.abc import Iterable
from itertools import pairwise

from rackserve.traffic_log.settings import Slo

# Seconds. About four edges per factor of ten over what each indicator can be.
LADDERS: dict[str, tuple[float, ...]] = {
    "ttft": (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160),
    "inter_token": (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5),
    "queue_wait": (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120),
    "response_time": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 900),
}
# Tokens of a prompt or a reply.
TOKENS: tuple[float, ...] = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
ANY = "any"


def edges(indicator: str, slos: Iterable[Slo]) -> tuple[float, ...]:
    """Upper edges in seconds, ascending, without +Inf. KeyError: no histogram has that indicator."""
    thresholds = (slo.threshold_seconds for slo in slos if slo.indicator == indicator)
    return tuple(sorted({*map(float, LADDERS[indicator]), *(one for one in thresholds if one is not None)}))


def reply_classes(slos: Iterable[Slo]) -> tuple[tuple[int, str], ...]:
    """(fewest tokens, label), descending. Every length is in one class, so that sums count once; each bound of an SLO cuts."""
    declared = [slo.reply_length for slo in slos if slo.reply_length is not None]
    if not declared:
        return ((0, ANY),)
    cuts = {0, *(one.from_tokens for one in declared), *(one.to_tokens + 1 for one in declared if one.to_tokens)}
    starts = sorted(cuts)
    if len(starts) == 1:
        return ((0, ANY),)
    classes = [(start, f"{start}-{end - 1}") for start, end in pairwise(starts)]
    return (*reversed([*classes, (starts[-1], f"{starts[-1]}-")]),)


def reply_class(classes: tuple[tuple[int, str], ...], tokens: int) -> str:
    return next((label for fewest, label in classes if tokens >= fewest), classes[-1][1])
