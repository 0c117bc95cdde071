"""Alerts on what watches: Prometheus, Alertmanager, and the one that fires as long as alerting works."""

from rackserve.alerts.form import Alert, alert, number

_NAME = "PrometheusTrouble"
# A third of the interval of 15 s: at the whole of it figures would be missing.
_SLOW_SECONDS = 5


def alerts() -> list[Alert]:
    return [*_not_there(), _blind(), *_failures(), _slow(), _watchdog()]


def _not_there() -> list[Alert]:
    reloaded = [f'{name}_config_last_reload_successful{{job="{name}"}} == 0' for name in ("prometheus", "alertmanager")]
    return [
        alert(
            _NAME,
            "ticket",
            'up{job=~"prometheus|alertmanager"} == 0',
            "{{ $labels.node }}: {{ $labels.job }} does not answer",
            "For 5 minutes {{ $labels.job }} on {{ $labels.node }} has not answered.",
            waits="5m",
            reason="down",
        ),
        alert(
            _NAME,
            "ticket",
            " or ".join(reloaded),
            "{{ $labels.node }}: {{ $labels.job }} refused its configuration",
            "For 5 minutes {{ $labels.job }} on {{ $labels.node }} has run with an older configuration than the one on disk.",
            waits="5m",
            reason="configuration",
        ),
        alert(
            _NAME,
            "ticket",
            'prometheus_notifications_alertmanagers_discovered{job="prometheus"} < 1',
            "{{ $labels.node }}: Prometheus knows no Alertmanager",
            "For 5 minutes Prometheus on {{ $labels.node }} has had nobody to tell its alerts.",
            waits="5m",
            reason="alertmanagers",
        ),
    ]


def _blind() -> Alert:
    """Prometheus scrapes itself, so what it stores nothing of is everything. A rule on figures would never see it."""
    return alert(
        _NAME,
        "page",
        'absent(up{job="prometheus"})',
        "{{ $externalLabels.monitor }}: Prometheus stores nothing",
        "For 5 minutes Prometheus has stored no figures, not even its own: its disk is full, or cannot be written. No other alert "
        "of this monitor is to be trusted.",
        waits="5m",
        reason="blind",
    )


def _failures() -> list[Alert]:
    counters = {
        "rules": ("prometheus_rule_evaluation_failures_total", "15m", "evaluations of rules failed"),
        "missed": ("prometheus_rule_group_iterations_missed_total", "15m", "evaluations of rules came too late"),
        # Seen by the other monitor, or when it was for a moment only.
        "unwritten": ("prometheus_tsdb_wal_writes_failed_total", "15m", "writes to the database failed"),
        # Blocks are compacted every two hours.
        "compaction": ("prometheus_tsdb_compactions_failed_total", "6h", "compactions of the database failed"),
        "notifications": ("prometheus_notifications_dropped_total", "15m", "notifications were dropped"),
        "receivers": ("alertmanager_notifications_failed_total", "15m", "notifications did not reach their receiver"),
    }
    return [_counted(reason, *about) for reason, about in counters.items()]


def _counted(reason: str, counter: str, window: str, words: str) -> Alert:
    job = counter.partition("_")[0]
    return alert(
        _NAME,
        "ticket",
        f'sum by (node) (increase({counter}{{job="{job}"}}[{window}])) > 0',
        f"{{{{ $labels.node }}}}: {{{{ $value | humanize }}}} {words}",
        f"Within {window} {{{{ $value | humanize }}}} {words} on {{{{ $labels.node }}}} ({counter}).",
        reason=reason,
    )


def _slow() -> Alert:
    return alert(
        _NAME,
        "ticket",
        f"avg_over_time(scrape_duration_seconds[10m]) > {number(_SLOW_SECONDS)}",
        "{{ $labels.instance }}: takes {{ $value | humanizeDuration }} to say its figures",
        "Over 10 minutes {{ $labels.job }} at {{ $labels.instance }} took {{ $value | humanizeDuration }} for its page, of 15 s "
        "from one to the next.",
        waits="5m",
        reason="slow",
    )


def _watchdog() -> Alert:
    return alert(
        "Watchdog",
        "none",
        "vector(1)",
        "Alerting works",
        "This alert always fires. Whoever waits for it (service_alerts.dead_man_url) notices when it stops.",
    )
