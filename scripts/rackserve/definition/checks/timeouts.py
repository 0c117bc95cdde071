"""Checks of time limits, and of what SLOs refer to."""

from collections.abc import Iterator

from rackserve.definition import wording
from rackserve.definition.models.service import Timeouts
from rackserve.definition.plan import resolved_timeouts
from rackserve.definition.problem import Path, Problem
from rackserve.definition.read import Definition

_ORDER = "connect < queue < generation <= client, and connect < silence <= generation"


def order_holds(definition: Definition) -> Iterator[Problem]:
    """Checked for the service and for each pool as resolved; a pool repeats no problem of the service."""
    service = definition.service
    broken = set()
    for key, text, value in _out_of_order(service.timeouts):
        broken.add(text)
        yield Problem(("service_timeouts", key), text, _ORDER, "change one of the two", f"{value:g}")
    for name, pool in service.pools.items():
        for key, text, value in _out_of_order(resolved_timeouts(service.timeouts, pool)):
            if text not in broken:
                own: Path = ("queue", "timeout_seconds") if key == "queue_seconds" else ("timeouts", key)
                yield Problem(
                    ("service_pools", name, *own),
                    text,
                    _ORDER,
                    "change one of the two, here or in service_timeouts",
                    f"{value:g}",
                )


def _out_of_order(timeouts: Timeouts) -> Iterator[tuple[str, str, float]]:
    """The later key of each broken pair, or the pool's queue where it is part of it."""
    t = timeouts
    if not t.connect_seconds < t.queue_seconds:
        yield (
            "queue_seconds",
            f"the queue's {t.queue_seconds:g} s are not above connect_seconds ({t.connect_seconds:g} s)",
            t.queue_seconds,
        )
    if not t.queue_seconds < t.generation_seconds:
        yield (
            "queue_seconds",
            f"the queue's {t.queue_seconds:g} s are not below generation_seconds ({t.generation_seconds:g} s)",
            t.queue_seconds,
        )
    if not t.generation_seconds <= t.client_seconds:
        yield (
            "generation_seconds",
            f"generation_seconds ({t.generation_seconds:g} s) is above client_seconds ({t.client_seconds:g} s)",
            t.generation_seconds,
        )
    if not t.connect_seconds < t.silence_seconds <= t.generation_seconds:
        yield (
            "silence_seconds",
            f"silence_seconds ({t.silence_seconds:g} s) is not between connect_seconds and generation_seconds",
            t.silence_seconds,
        )


def lanes_fit(definition: Definition) -> Iterator[Problem]:
    timeouts = definition.service.timeouts
    for name, lane in definition.service.lanes.items():
        path: Path = ("service_lanes", name)
        generation = lane.generation_timeout_seconds or timeouts.generation_seconds
        if (
            lane.queue_timeout_seconds is not None
            and not timeouts.connect_seconds < lane.queue_timeout_seconds < generation
        ):
            yield Problem(
                (*path, "queue_timeout_seconds"),
                f"is not between connect ({timeouts.connect_seconds:g} s) and the lane's generation ({generation:g} s)",
                _ORDER,
                "change one of them",
                f"{lane.queue_timeout_seconds:g}",
            )
        if generation > timeouts.client_seconds and lane.generation_timeout_seconds is not None:
            yield Problem(
                (*path, "generation_timeout_seconds"),
                f"is above service_timeouts.client_seconds ({timeouts.client_seconds:g} s)",
                _ORDER,
                "lower it, or raise client_seconds",
                f"{generation:g}",
            )


def slos_refer(definition: Definition) -> Iterator[Problem]:
    names: set[str] = set()
    pools, lanes = definition.declared["pools"], definition.declared["lanes"]
    for number, slo in enumerate(definition.service.slos):
        path: Path = ("service_slos", number)
        if slo.pool not in pools:
            yield wording.unknown((*path, "pool"), "pool", slo.pool, pools)
        if slo.lane is not None and slo.lane not in lanes:
            yield wording.unknown((*path, "lane"), "lane", slo.lane, lanes)
        if slo.name in names:
            yield Problem(
                (*path, "name"), "is the name of an SLO above", "each name once", "choose another name", f'"{slo.name}"'
            )
        names.add(slo.name)
