"""What an SLO counts: PromQL for its valid and its good events. Every balancer's counters, each summed once."""

from dataclasses import dataclass
from typing import Literal

from rackserve.definition.models.observe import Slo
from rackserve.definition.read import Definition
from rackserve.slo.buckets import METRICS, classes_of, le

REQUESTS = "rackserve_requests_total"
GOOD = ("ok", "client_gone_after")
BAD = ("engine_error", "cut", "timeout", "unreachable")


@dataclass(frozen=True)
class Events:
    """Selectors of counters. `good_may_lack`: in a full outage there may be no series of a good event yet."""

    valid: str
    good: str
    good_may_lack: bool


def selector(slo: Slo, *more: str) -> str:
    """Only what clients asked, and only from the balancers' own pages: a copy under another job is not counted again."""
    lane = [f'lane="{slo.lane}"'] if slo.lane is not None else []
    return "{" + ",".join(['job="traffic"', 'origin="client"', f'pool="{slo.pool}"', *lane, *more]) + "}"


def of(slo: Slo, definition: Definition) -> Events:
    if slo.indicator == "availability":
        return Events(
            REQUESTS + selector(slo, f'outcome=~"{"|".join((*GOOD, *BAD))}"'),
            REQUESTS + selector(slo, f'outcome=~"{"|".join(GOOD)}"'),
            True,
        )
    if slo.threshold_seconds is None:
        raise ValueError(f"{slo.name}: there is no metric for the indicator {slo.indicator}")
    metric = METRICS[slo.indicator]
    reply = [] if slo.reply_length is None else [f'reply=~"{"|".join(classes_of(slo.reply_length, definition))}"']
    edge = f'le="{le(slo.threshold_seconds)}"'
    # A missing bucket gives no ratio at all, and an alert of its own: it says nothing about the users.
    return Events(f"{metric}_count" + selector(slo, *reply), f"{metric}_bucket" + selector(slo, *reply, edge), False)


def valid(events: Events, function: Literal["rate", "increase"], window: str) -> str:
    return f"sum({function}({events.valid}[{window}]))"


def good(events: Events, function: Literal["rate", "increase"], window: str) -> str:
    found = f"sum({function}({events.good}[{window}]))"
    return f"{found} or 0 * {valid(events, function, window)}" if events.good_may_lack else found
