"""What is asked of Prometheus for the screen, and how its answers are read. Pure.

Names of metrics and rules are those of the log service, of the SLO rules and of vLLM; a test holds them together.
"""

from collections.abc import Mapping

from rackserve.fleet.prometheus import Answer, Question, Sample
from rackserve.fleet.status.snapshot import Alert, Budget, Missing, Users

WINDOW = "5m"
_CLIENTS = 'job="traffic",origin="client"'
_BAD = "engine_error|cut|timeout|unreachable"
_SEVERITIES = ("page", "ticket")
DEAD_MAN = "Watchdog"
# Six rounds of scraping, and the minute to which the query is exact.
STORED_SECONDS = 150


def _p95(metric: str) -> str:
    return f"histogram_quantile(0.95, sum by (pool, lane, le) (rate({metric}_bucket{{{_CLIENTS}}}[{WINDOW}])))"


def _rate(more: str = "") -> str:
    return f"sum by (pool, lane) (rate(rackserve_requests_total{{{_CLIENTS}{more}}}[{WINDOW}]))"


INSTANT: Mapping[str, str] = {
    "rate": _rate(),
    "refused": _rate(',outcome="refused"'),
    "failed": _rate(f',outcome=~"{_BAD}"'),
    "first_token": _p95("rackserve_time_to_first_token_seconds"),
    "answer": _p95("rackserve_response_seconds"),
    "budget": "rackserve:slo_budget_left:ratio",
    "exhaustion": "rackserve:slo_exhaustion:seconds",
    # An engine with several cores has a series for each.
    "running": 'sum by (engine) (vllm:num_requests_running{job="vllm"})',
    "waiting": 'sum by (engine) (vllm:num_requests_waiting{job="vllm"})',
    "kv_cache": 'max by (engine) (vllm:kv_cache_usage_perc{job="vllm"})',
    # timestamp() of an expression would be now; only of a selector it is the moment of the scrape.
    "age": 'time() - max(timestamp(up{job="traffic"}) and up{job="traffic"} == 1)',
    # Of anything at all, scraped or not: what Prometheus cannot write it forgets, and says nothing of it.
    "stored": "time() - max(max_over_time(timestamp(up)[1h:1m]))",
    "unscraped": "up == 0",
}
QUESTION = Question(INSTANT, alerts=True)


def users(answer: Answer) -> tuple[Users, ...]:
    """A pool and lane that nobody used within the window has no row."""
    rates = _by(answer.of("rate"), "pool", "lane")
    refused, failed, first, whole = (
        _by(answer.of(name), "pool", "lane") for name in ("refused", "failed", "first_token", "answer")
    )
    return tuple(
        Users(
            pool,
            lane,
            rate,
            first.get((pool, lane)),
            whole.get((pool, lane)),
            refused.get((pool, lane), 0.0) / rate,
            failed.get((pool, lane), 0.0) / rate,
        )
        for (pool, lane), rate in sorted(rates.items())
        if rate > 0
    )


def budgets(answer: Answer) -> tuple[Budget, ...]:
    """The least left first."""
    left, ends = (_by(answer.of(name), "slo", "pool", "lane") for name in ("budget", "exhaustion"))
    found = [
        Budget(slo, pool, lane, left.get((slo, pool, lane)), ends.get((slo, pool, lane)))
        for slo, pool, lane in {**left, **ends}
    ]
    return tuple(sorted(found, key=lambda one: (one.left_ratio is None, one.left_ratio or 0, one.slo)))


def alerts(answer: Answer) -> tuple[Alert, ...]:
    """Firing ones, pages first; the dead man's and others that call nobody are left out."""
    found = [
        Alert(
            one.labels["severity"],
            one.labels.get("alertname", ""),
            {name: value for name, value in one.labels.items() if name not in ("alertname", "severity")},
            one.annotations.get("summary", ""),
            one.annotations.get("runbook", ""),
            one.activeAt.timestamp() if one.activeAt else None,
        )
        for one in answer.alerts
        if one.state == "firing" and one.labels.get("severity") in _SEVERITIES
    ]
    return tuple(sorted(found, key=lambda one: (_SEVERITIES.index(one.severity), one.since or 0, one.name)))


def engine_figures(answer: Answer, name: str) -> dict[str, float]:
    """By engine."""
    return {key[0]: value for key, value in _by(answer.of(name), "engine").items()}


def age_seconds(answer: Answer) -> float | None:
    return next((one.number for one in answer.of("age")), None)


def gaps(answer: Answer) -> list[Missing]:
    """What Prometheus itself does not know."""
    found = [Missing(f"figure {name}", f"{answer.monitor}'s Prometheus: {why}") for name, why in answer.refused.items()]
    for one in answer.of("unscraped"):
        where = one.metric.get("engine") or one.metric.get("node") or one.metric.get("instance", "")
        job = one.metric.get("job", "")
        found.append(
            Missing(f"{job} of {where}", f"{answer.monitor}'s Prometheus cannot read {one.metric.get('instance')}")
        )
    if not any(one.labels.get("alertname") == DEAD_MAN and one.state == "firing" for one in answer.alerts):
        found.append(
            Missing("alerts", f"{DEAD_MAN} does not fire at {answer.monitor}: its rules are missing or not evaluated")
        )
    stored = next((one.number for one in answer.of("stored")), None)
    if stored is None or stored > STORED_SECONDS:
        since = "an hour" if stored is None else f"{stored:.0f} s"
        found.append(
            Missing(
                "new figures and alerts",
                f"{answer.monitor}'s Prometheus has stored nothing for {since}. Its disk full? There: df -h /var/lib/prometheus; "
                "journalctl -u prometheus -n 20",
            )
        )
    if age_seconds(answer) is None:
        found.append(Missing("figures of users", f"{answer.monitor}'s Prometheus has no page of a log service"))
    return found


def _by(samples: tuple[Sample, ...], *labels: str) -> dict[tuple[str, ...], float]:
    named = ((tuple(one.metric.get(label, "") for label in labels), one.number) for one in samples)
    return {key: number for key, number in named if number is not None}
