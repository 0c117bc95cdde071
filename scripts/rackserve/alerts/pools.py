"""Alerts on pools: nobody serves, nobody is to spare, the queue fills, requests are sent away."""

import math

from rackserve.alerts.form import Alert, alert, in_pool, number, servers, status
from rackserve.definition.models.pool import Pool
from rackserve.definition.raw import BALANCERS
from rackserve.definition.read import Definition

# A queue that is four fifths full on average leaves the next burst nowhere to wait.
_QUEUE_SHARE = 0.8
_QUEUE = "queue_full|lane_queue_full|queue_timeout"
_LIMITS = "rate_limit_exceeded|(key|tenant)_(concurrent_requests|parallel_streams)"
# One in ten sent away is an outage for somebody, and no SLO counts it. Twenty of them: not a handful at night.
_REFUSED_SHARE, _REFUSED_AT_LEAST = 0.1, 20
# Limits are meant to be hit now and then. Half of what a tenant asks, for half an hour, is a wrong limit or a wild client.
_LIMITED_SHARE = 0.5


def alerts(definition: Definition) -> list[Alert]:
    balancers = max(len(definition.members(BALANCERS)), 1)
    found = []
    for name, pool in definition.service.pools.items():
        found.append(_down(name))
        if len(pool.engines) > 1:
            found.append(_without_spare(name, pool))
        if pool.queue.max_requests:
            found.append(_queue_filling(name, pool, balancers))
        found.append(_sent_away(name))
    return [*found, _limited()]


def _in_service(name: str) -> str:
    """Engines that take the pool's requests, as each balancer sees it."""
    return f"sum by (node) ({status('UP', in_pool(name))})"


def _down(name: str) -> Alert:
    return alert(
        "PoolDown",
        "page",
        f"{_in_service(name)} == 0",
        f"{name}: no engine in service at {{{{ $labels.node }}}}",
        f"For 2 minutes the balancer {{{{ $labels.node }}}} has no engine for the pool {name} and answers 503 no_engine.",
        # Two minutes: a lone engine that is restarted on a small model is back by then.
        waits="2m",
        pool=name,
    )


def _without_spare(name: str, pool: Pool) -> Alert:
    """The next engine that fails leaves less than the peak needs; without spare_engines it leaves nothing."""
    last = len(pool.engines) - pool.spare_engines if pool.spare_engines else 1
    last = max(last, 1)
    return alert(
        "PoolWithoutSpare",
        "ticket",
        # None at all is PoolDown.
        f"(min({_in_service(name)}) <= {last}) > 0",
        f"{name}: {{{{ $value }}}} of {len(pool.engines)} engines in service, none to spare",
        f"For 15 minutes a balancer has had {{{{ $value }}}} engines of the pool {name}. One less, and the pool cannot carry its peak.",
        # An update takes an engine out for some minutes, on purpose.
        waits="15m",
        pool=name,
    )


def _queue_filling(name: str, pool: Pool, balancers: int) -> Alert:
    """HAProxy's own queue is not all: lanes with a share or a time of their own wait in a room in front of it.

    Whoever waits in either is a session of the backend and none of a server.
    """
    bound = math.ceil(pool.queue.max_requests / balancers)
    waiting = " - ".join(
        f"sum by (node) ({servers(f'haproxy_{side}_current_sessions', in_pool(name))})"
        for side in ("backend", "server")
    )
    return alert(
        "QueueFilling",
        "ticket",
        f"avg_over_time(({waiting})[5m:15s]) > {number(bound * _QUEUE_SHARE)}",
        f"{name}: {{{{ $value | humanize }}}} of {bound} places of the queue taken at {{{{ $labels.node }}}}",
        f"Over 5 minutes {{{{ $value | humanize }}}} requests waited for the pool {name} at {{{{ $labels.node }}}}, where at most "
        f"{bound} may; the next ones are refused.",
        waits="2m",
        pool=name,
    )


def _sent_away(name: str) -> Alert:
    refused = f'rackserve_refusals_total{{job="traffic",pool="{name}",reason=~"{_QUEUE}"}}'
    asked = f'rackserve_requests_total{{job="traffic",pool="{name}"}}'
    return alert(
        "AdmissionRejections",
        "page",
        f"sum by (reason) (rate({refused}[10m])) / ignoring (reason) group_left () sum(rate({asked}[10m])) "
        f"> {number(_REFUSED_SHARE)}\n"
        f"and on (reason) sum by (reason) (increase({refused}[10m])) > {_REFUSED_AT_LEAST}",
        f"{name}: {{{{ $value | humanizePercentage }}}} of the requests refused ({{{{ $labels.reason }}}})",
        f"Over 10 minutes {{{{ $value | humanizePercentage }}}} of the requests to the pool {name} found no place: "
        "{{ $labels.reason }}. More is asked than the slots give. No SLO counts refusals.",
        waits="2m",
        pool=name,
    )


def _limited() -> Alert:
    refused = f'rackserve_refusals_total{{job="traffic",reason=~"{_LIMITS}"}}'
    asked = 'rackserve_requests_total{job="traffic"}'
    return alert(
        "AdmissionRejections",
        "ticket",
        f"sum by (tenant, reason) (rate({refused}[30m])) / on (tenant) group_left () sum by (tenant) (rate({asked}[30m])) "
        f"> {number(_LIMITED_SHARE)}\n"
        f"and on (tenant, reason) sum by (tenant, reason) (increase({refused}[30m])) > {_REFUSED_AT_LEAST}",
        "{{ $labels.tenant }}: {{ $value | humanizePercentage }} of its requests over a limit ({{ $labels.reason }})",
        "Over 30 minutes {{ $value | humanizePercentage }} of the requests of the tenant {{ $labels.tenant }} were refused by "
        "its limits: {{ $labels.reason }}.",
        waits="2m",
    )
