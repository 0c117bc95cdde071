"""The form of an alert, and selectors of what HAProxy's exporter says."""

import re
from typing import Any, Literal

from rackserve.definition.models.pool import Pool

Alert = dict[str, Any]
Severity = Literal["page", "ticket", "none"]
RUNBOOKS = "docs/runbooks"
TRACKS = "stable|baseline|canary"


def alert(
    name: str,
    severity: Severity,
    expression: str,
    summary: str,
    description: str,
    waits: str | None = None,
    **labels: str,
) -> Alert:
    """One rule. waits: how long the expression has to be true, as Prometheus writes durations; None: not at all."""
    return {
        "alert": name,
        "expr": expression,
        **({"for": waits} if waits else {}),
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "description": description, "runbook": runbook(name)},
    }


def runbook(name: str) -> str:
    return f"{RUNBOOKS}/{re.sub(r'(?<!^)(?=[A-Z])', '-', name).lower()}.md"


# Hidden backends: what checks and operators say of each engine, and what the breaker says.
ENGINES, BREAKERS = 'proxy="engines"', 'proxy="breakers"'


def in_pool(pool: str) -> str:
    """Matches the backends that carry the pool's requests, in every track."""
    return f'proxy=~"pool-{pool}-({TRACKS})"'


def servers(metric: str, *matchers: str) -> str:
    matched = ",".join(('job="haproxy"', *matchers))
    return f"{metric}{{{matched}}}"


def status(state: str, *matchers: str) -> str:
    """1 for each server in that state: UP, DOWN (failed its check), DRAIN or MAINT (taken out), 0 for the others."""
    return servers("haproxy_server_status", *matchers, f'state="{state}"')


def any_of(pool: Pool) -> str:
    """Matches the servers of the pool's engines where the backend does not tell the pool."""
    names = "|".join(engine.name for engine in pool.engines)
    return f'server=~"{names}"'


def number(value: float) -> str:
    """Without a needless fraction."""
    return f"{value:.10g}"
