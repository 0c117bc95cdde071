"""Recording rules and burn alerts of each SLO, as the plain data of a Prometheus rule file (2.53).

Windows up to an hour come from the counters themselves. Longer ones are sums of five-minute increases, good over valid:
a quiet night weighs as little as it carried, which a mean of ratios would get wrong, and a month costs one cheap series.
"""

from typing import Any

from rackserve.definition import burn
from rackserve.definition.models.observe import Slo
from rackserve.definition.read import Definition
from rackserve.slo import absent, events
from rackserve.slo.text import burn_annotations, number

Rule = dict[str, Any]
STEP_SECONDS = 300
EVALUATION_SECONDS = 60
_LONGEST_DIRECT_SECONDS = 3_600
PRESENT_SECONDS = 3_600
# increase() extrapolates to the edges of its window, so one event reads as a little more than one. More than one event
# has to be bad: a single failure wakes nobody, however little traffic there is.
_MORE_THAN_ONE_EVENT = 1.5

VALID, GOOD = "rackserve:slo_valid:rate", "rackserve:slo_good:rate"
VALID_STEP, GOOD_STEP = "rackserve:slo_valid:increase5m", "rackserve:slo_good:increase5m"
ERRORS, BURN = "rackserve:slo_errors:ratio", "rackserve:slo_burn:rate"
BUDGET_LEFT, EXHAUSTION = "rackserve:slo_budget_left:ratio", "rackserve:slo_exhaustion:seconds"


def rules(definition: Definition) -> dict[str, Any]:
    """{"groups": [...]}. Raises ValueError for an SLO that has no metric; the definition's checks refuse those."""
    groups = [group for slo in definition.service.slos for group in _groups(slo, definition)]
    missing = absent.alerts(definition)
    return {"groups": [*groups, *([_group("slo-data", EVALUATION_SECONDS, missing)] if missing else [])]}


def _groups(slo: Slo, definition: Definition) -> list[Rule]:
    counted = events.of(slo, definition)
    step = duration(STEP_SECONDS)
    sums = [
        _record(VALID_STEP, slo, events.valid(counted, "increase", step)),
        _record(GOOD_STEP, slo, events.good(counted, "increase", step)),
    ]
    rates = [rule for seconds in windows(slo) for rule in _window(slo, counted, seconds)]
    return [
        _group(f"slo-{slo.name}-sums", STEP_SECONDS, sums),
        _group(f"slo-{slo.name}", EVALUATION_SECONDS, [*rates, *_budget(slo), *burn_alerts(slo)]),
    ]


def _group(name: str, seconds: int, members: list[Rule]) -> Rule:
    return {"name": name, "interval": duration(seconds), "rules": members}


def windows(slo: Slo) -> list[int]:
    """Seconds, ascending: both windows of every pair, for tables too, and the SLO's own."""
    every = {seconds for pair in burn.PAIRS for seconds in (pair.long_seconds, pair.short_seconds)}
    return sorted(every | {slo.window_days * burn.DAY_SECONDS})


def _window(slo: Slo, counted: events.Events, seconds: int) -> list[Rule]:
    window = duration(seconds)
    if seconds <= _LONGEST_DIRECT_SECONDS:
        valid, good = events.valid(counted, "rate", window), events.good(counted, "rate", window)
    else:
        valid, good = (
            f"sum_over_time({name}{{{_slo(slo)}}}[{window}]) / {seconds}" for name in (VALID_STEP, GOOD_STEP)
        )
    at = f'{{{_slo(slo)},window="{window}"}}'
    label = {"window": window}
    return [
        _record(VALID, slo, valid, label),
        _record(GOOD, slo, good, label),
        # Nothing asked: no ratio, instead of one that is not a number.
        _record(ERRORS, slo, f"clamp_min(1 - {GOOD}{at} / ({VALID}{at} > 0), 0)", label),
        _record(BURN, slo, f"{ERRORS}{at} / {number(budget(slo))}", label),
    ]


def _budget(slo: Slo) -> list[Rule]:
    """Share of the window's budget that is left (0 to 1), and the seconds until it is gone at the last hour's burn.

    Without a burn nothing runs out, and there is no time to exhaustion.
    """
    whole = slo.window_days * burn.DAY_SECONDS
    spent = f'{BURN}{{{_slo(slo)},window="{duration(whole)}"}}'
    present = f'{BURN}{{{_slo(slo)},window="{duration(PRESENT_SECONDS)}"}}'
    return [
        _record(BUDGET_LEFT, slo, f"clamp(1 - {spent}, 0, 1)", {"window": duration(whole)}),
        _record(EXHAUSTION, slo, f"{BUDGET_LEFT}{{{_slo(slo)}}} * {whole} / ignoring(window) ({present} > 0)"),
    ]


def burn_alerts(slo: Slo) -> list[Rule]:
    found = []
    for pair in burn.pairs(slo.alert, slo.window_days, slo.objective_percent):
        long, short = duration(pair.long_seconds), duration(pair.short_seconds)
        factor = number(burn.factor(pair, slo.window_days))
        at_long, at_short = (f'{{{_slo(slo)},window="{window}"}}' for window in (long, short))
        conditions = (
            f"{BURN}{at_long} > {factor}",
            f"{BURN}{at_short} > {factor}",
            f"{VALID}{at_long} * 3600 >= {slo.minimum_requests_per_hour}",
            f"({VALID}{at_long} - {GOOD}{at_long}) * {pair.long_seconds} > {_MORE_THAN_ONE_EVENT}",
        )
        found.append(
            {
                "alert": "SloBurn",
                "expr": "\nand ignoring(window) ".join(conditions),
                "labels": {"severity": pair.severity, **labels(slo), "window": long},
                "annotations": burn_annotations(slo, pair, long, short),
            }
        )
    return found


def budget(slo: Slo) -> float:
    """Share of requests that may be bad."""
    return round(100 - slo.objective_percent, 9) / 100


def labels(slo: Slo) -> dict[str, str]:
    return {"slo": slo.name, "pool": slo.pool, "lane": slo.lane or "all"}


def _slo(slo: Slo) -> str:
    return f'slo="{slo.name}"'


def _record(name: str, slo: Slo, expression: str, more: dict[str, str] | None = None) -> Rule:
    return {"record": name, "expr": expression, "labels": {**labels(slo), **(more or {})}}


def duration(seconds: int) -> str:
    """As PromQL writes it, in the largest whole unit: 5m, 1h, 3d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
