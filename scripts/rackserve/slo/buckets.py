"""Edges of histograms and classes of replies, for the service that exports them and for the rules that read them."""

from collections.abc import Iterable
from itertools import pairwise

from prometheus_client.utils import floatToGoString

from rackserve.definition.models.observe import ReplyLength, Slo
from rackserve.definition.read import Definition

METRICS = {
    "ttft": "rackserve_time_to_first_token_seconds",
    "inter_token": "rackserve_inter_token_seconds",
    "queue_wait": "rackserve_queue_wait_seconds",
    "response_time": "rackserve_response_seconds",
}
# Seconds. About four edges per factor of ten over what each indicator can be: a percentile is known within a bucket.
_LADDERS: dict[str, tuple[float, ...]] = {
    "ttft": (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160),
    "inter_token": (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5),
    "queue_wait": (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120),
    "response_time": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 900),
}
ANY = "any"


def edges(slos: Iterable[Slo]) -> dict[str, tuple[float, ...]]:
    """Upper edges in seconds by timed indicator, ascending, without +Inf: a base ladder and every SLO's threshold."""
    given = tuple(slos)
    return {
        indicator: tuple(sorted({*map(float, ladder), *_thresholds(given, indicator)}))
        for indicator, ladder in _LADDERS.items()
    }


def _thresholds(slos: Iterable[Slo], indicator: str) -> Iterable[float]:
    return (slo.threshold_seconds for slo in slos if slo.indicator == indicator and slo.threshold_seconds is not None)


def le(edge: float) -> str:
    """The label `le` of an edge as prometheus-client prints it: 0.5 is "0.5", 1 is "1.0"."""
    text: str = floatToGoString(edge)  # type: ignore[no-untyped-call]
    return text


def reply_classes(definition: Definition) -> dict[str, tuple[int, int | None]]:
    """Label `reply` -> (fewest, most tokens; None: no end). They cover every length once, so that sums count once.

    SLOs may name lengths that overlap; each bound of theirs cuts here, and an SLO reads the classes inside its own.
    """
    declared = [slo.reply_length for slo in definition.service.slos if slo.reply_length is not None]
    cuts = {one.from_tokens for one in declared} | {one.to_tokens + 1 for one in declared if one.to_tokens is not None}
    starts = sorted(cuts | {0})
    classes = {f"{start}-{end - 1}": (start, end - 1) for start, end in pairwise(starts)}
    last = f"{starts[-1]}-" if classes else ANY
    return {**classes, last: (starts[-1], None)}


def classes_of(length: ReplyLength, definition: Definition) -> tuple[str, ...]:
    """The classes that an SLO's reply_length consists of."""
    return tuple(
        label
        for label, (start, end) in reply_classes(definition).items()
        if start >= length.from_tokens and (length.to_tokens is None or (end is not None and end <= length.to_tokens))
    )
