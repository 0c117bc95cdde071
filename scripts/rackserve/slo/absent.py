"""Alerts on figures that are missing: an SLO without data looks like one that is kept."""

from typing import Any

from rackserve.definition.models.observe import Slo
from rackserve.definition.raw import BALANCERS
from rackserve.definition.read import Definition
from rackserve.slo import events
from rackserve.slo.text import RUNBOOKS, where

_RUNBOOK = f"{RUNBOOKS}/slo-no-data.md"
_TRACKS = "stable|baseline|canary"
_ANSWERED = 'outcome="ok"'


def alerts(definition: Definition) -> list[dict[str, Any]]:
    slos = [slo for slo in definition.service.slos if slo.alert != "none"]
    if not slos:
        return []
    severity = _severity(slos)
    pools = sorted({slo.pool for slo in slos})
    return [
        *[_page_gone(name, severity) for name in definition.members(BALANCERS)],
        *[_not_counted(pool, _severity([slo for slo in slos if slo.pool == pool])) for pool in pools],
        *[_no_bucket(slo, definition) for slo in slos if slo.indicator != "availability"],
    ]


def _severity(slos: list[Slo]) -> str:
    """Blind is as urgent as what would not be seen."""
    return "page" if any(slo.alert == "page_and_ticket" for slo in slos) else "ticket"


def _page_gone(node: str, severity: str) -> dict[str, Any]:
    up = f'up{{job="traffic",node="{node}"}}'
    return {
        "alert": "TrafficPageGone",
        "expr": f"{up} == 0 or absent({up})",
        "for": "5m",
        "labels": {"severity": severity, "node": node},
        "annotations": {
            "summary": f"{node}: the figures of its requests are not there",
            "description": f"For 5 minutes the page of the log service on {node} was not read; its requests are in no SLO.",
            "runbook": _RUNBOOK,
        },
    }


def _not_counted(pool: str, severity: str) -> dict[str, Any]:
    """HAProxy counts what it passes on; each balancer is compared with its own log service."""
    passed = f'sum by (node) (rate(haproxy_backend_http_requests_total{{proxy=~"pool-{pool}-({_TRACKS})"}}[10m]))'
    counted = f'sum by (node) (rate({events.REQUESTS}{{job="traffic",pool="{pool}"}}[10m]))'
    return {
        "alert": "TrafficNotCounted",
        "expr": f"{passed} > 0\nunless {counted} > 0",
        "for": "10m",
        "labels": {"severity": severity, "pool": pool},
        "annotations": {
            "summary": f"{{{{ $labels.node }}}}: requests of pool {pool} pass and are not counted",
            "description": (
                f"The balancer {{{{ $labels.node }}}} passes {{{{ $value | humanize }}}} requests a second on to pool "
                f"{pool}, and its log service has counted none for 10 minutes."
            ),
            "runbook": _RUNBOOK,
        },
    }


def _no_bucket(slo: Slo, definition: Definition) -> dict[str, Any]:
    counted = events.of(slo, definition)
    answered = f"sum(increase({events.REQUESTS}{events.selector(slo, _ANSWERED)}[30m]))"
    return {
        "alert": "SloWithoutData",
        "expr": f"{answered} > 0\nunless count({counted.good})",
        "for": "10m",
        "labels": {"severity": "ticket", "slo": slo.name, "pool": slo.pool, "lane": slo.lane or "all"},
        "annotations": {
            "summary": f"{slo.name}: {where(slo)} answers, and there is nothing to judge it by",
            "description": f"{{{{ $value | humanize }}}} answers in 30 minutes, and no series {counted.good}.",
            "runbook": _RUNBOOK,
        },
    }
