"""Checks of SLOs: what can be measured, and alerts that can fire and mean something."""

from collections.abc import Iterator

from rackserve.definition import burn, engine_buckets
from rackserve.definition.models.observe import Slo
from rackserve.definition.models.service import Service
from rackserve.definition.plan import resolved_timeouts
from rackserve.definition.problem import Path, Problem
from rackserve.definition.read import Definition

_MEASURED = "availability, ttft, inter_token, queue_wait, response_time"


def _each(definition: Definition) -> Iterator[tuple[Path, Slo]]:
    for number, slo in enumerate(definition.service.slos):
        yield ("service_slos", number), slo


def indicators_have_a_metric(definition: Definition) -> Iterator[Problem]:
    for path, slo in _each(definition):
        if slo.indicator == "cost":
            yield Problem(
                (*path, "indicator"),
                "cost has no metric yet: no request carries its price",
                _MEASURED,
                "remove the SLO",
                '"cost"',
            )


def lanes_are_served(definition: Definition) -> Iterator[Problem]:
    """A lane that the pool refuses has no requests, so its SLO would look kept for ever."""
    for path, slo in _each(definition):
        pool = definition.service.pools.get(slo.pool)
        if pool is not None and pool.lanes and slo.lane in definition.service.lanes and slo.lane not in pool.lanes:
            yield Problem(
                (*path, "lane"),
                f"pool {slo.pool} accepts no requests of this lane",
                ", ".join(pool.lanes),
                f"choose one of them, or add the lane to service_pools.{slo.pool}.lanes",
                f'"{slo.lane}"',
            )


def windows_fit_the_burn(definition: Definition) -> Iterator[Problem]:
    """At a burn of 1 the budget lasts its window: a page at that pace would wake people for a promise that is kept."""
    least = {"ticket": burn.LONGEST_DAYS, "page_and_ticket": _least_days_for_pages()}
    for path, slo in _each(definition):
        if slo.window_days < (days := least.get(slo.alert, 0)):
            yield Problem(
                (*path, "window_days"),
                f"is too short for alert {slo.alert}: "
                + (
                    f"burn is looked at over up to {burn.LONGEST_DAYS} days"
                    if slo.window_days < burn.LONGEST_DAYS
                    else "pages would come at a pace at which the budget lasts"
                ),
                f"from {days} with alert {slo.alert}, any with none",
                "lengthen the window, or choose a quieter alert",
                str(slo.window_days),
            )


def _least_days_for_pages() -> int:
    pages = [pair for pair in burn.PAIRS if pair.severity == "page"]
    fitting = (
        days for days in range(burn.LONGEST_DAYS, 91) if all(burn.share_factor(pair, days) > 1 for pair in pages)
    )
    return next(fitting)


def windows_are_kept(definition: Definition) -> Iterator[Problem]:
    kept = definition.service.retention.metrics_days
    for path, slo in _each(definition):
        if slo.window_days > kept:
            yield Problem(
                (*path, "window_days"),
                f"is longer than metrics are kept ({kept} days): the budget left could not be told",
                f"up to {kept}, the value of service_retention.metrics_days",
                "shorten the window, or keep metrics for longer",
                str(slo.window_days),
            )


def pages_can_fire(definition: Definition) -> Iterator[Problem]:
    """With a wide budget even a full outage does not spend a page's share within its window."""
    for path, slo in _each(definition):
        if slo.alert != "page_and_ticket" or slo.window_days < _least_days_for_pages():
            continue
        pages = [pair for pair in burn.PAIRS if pair.severity == "page"]
        if not any(burn.can_fire(pair, slo.window_days, slo.objective_percent) for pair in pages):
            slowest = min(burn.factor(pair, slo.window_days) for pair in pages)
            yield Problem(
                (*path, "objective_percent"),
                f"leaves so much budget that not even a full outage pages: that needs a burn above {slowest:g}",
                f"over {100 - 100 / slowest:.4g} with window_days {slo.window_days} and alert page_and_ticket",
                "raise the objective, shorten the window, or set alert to ticket",
                f"{slo.objective_percent:g}",
            )


def thresholds_can_be_missed(definition: Definition) -> Iterator[Problem]:
    """At or above the time limit of what is measured the request has ended: no answer can be worse than promised."""
    for path, slo in _each(definition):
        if slo.threshold_seconds is None or slo.pool not in definition.service.pools:
            continue
        name, limit = _limit(definition.service, slo)
        if slo.threshold_seconds >= limit:
            yield Problem(
                (*path, "threshold_seconds"),
                f"is not below {name} of pool {slo.pool} ({limit:g} s): no request could miss it",
                f"below {limit:g}",
                f"lower it, or raise {name}",
                f"{slo.threshold_seconds:g}",
            )


def thresholds_lie_on_edges(definition: Definition) -> Iterator[Problem]:
    """The balancers' histograms take any edge, and so do engines from vLLM 0.32 on."""
    for path, slo in _each(definition):
        pool = definition.service.pools.get(slo.pool)
        release = definition.service.releases.get(pool.release) if pool is not None else None
        if slo.threshold_seconds is None or release is None or engine_buckets.settable(release.version):
            continue
        edges = engine_buckets.FAMILIES[slo.indicator].edges
        if slo.threshold_seconds not in edges:
            yield Problem(
                (*path, "threshold_seconds"),
                f"is no edge of the histogram of vLLM {release.version}, which has fixed ones: its engines could not say "
                "how many requests kept it",
                ", ".join(f"{edge:g}" for edge in edges),
                f"choose one of them, or give pool {slo.pool} a release with vLLM 0.32 or newer",
                f"{slo.threshold_seconds:g}",
            )


def _limit(service: Service, slo: Slo) -> tuple[str, float]:
    """The setting that ends what the indicator measures, and its seconds; without a lane the most of all lanes."""
    pool = service.pools[slo.pool]
    timeouts = resolved_timeouts(service.timeouts, pool)
    names = [slo.lane] if slo.lane is not None else [*(pool.lanes or service.lanes)]
    lanes = [service.lanes[name] for name in names if name in service.lanes]
    if slo.indicator == "queue_wait":
        waits = [lane.queue_timeout_seconds or timeouts.queue_seconds for lane in lanes]
        return "the queue's time limit", max(waits, default=timeouts.queue_seconds)
    if slo.indicator == "inter_token":
        return "silence_seconds", timeouts.silence_seconds
    # Of the pool's and the lane's limit the shorter one ends an answer.
    most = timeouts.generation_seconds
    answers = [min(most, lane.generation_timeout_seconds or most) for lane in lanes]
    return "the generation's time limit", max(answers, default=most)


def reply_lengths_are_ranges(definition: Definition) -> Iterator[Problem]:
    for path, slo in _each(definition):
        length = slo.reply_length
        if length is not None and length.to_tokens is not None and length.from_tokens > length.to_tokens:
            yield Problem(
                (*path, "reply_length", "from_tokens"),
                f"is above to_tokens ({length.to_tokens}): no reply has such a length",
                f"up to {length.to_tokens}",
                "exchange the two, or correct one",
                str(length.from_tokens),
            )
