"""Words of alerts: what burns, how fast, and where it is written what to do."""

from rackserve.definition import burn
from rackserve.definition.models.observe import Slo

RUNBOOKS = "docs/runbooks"
_GOOD = {
    "availability": "requests that an engine answered to the end",
    "ttft": "first tokens within {seconds} s",
    "inter_token": "answers with at most {seconds} s from token to token",
    "queue_wait": "requests that waited at most {seconds} s for a slot",
    "response_time": "answers complete within {seconds} s",
}


def promise(slo: Slo) -> str:
    """The SLO as a sentence: 99.9 % of requests that ... over 30 days."""
    good = _GOOD[slo.indicator].format(seconds=number(slo.threshold_seconds or 0))
    return f"{number(slo.objective_percent)} % {good}, over {slo.window_days} days"


def where(slo: Slo) -> str:
    return f"pool {slo.pool}" + (f", lane {slo.lane}" if slo.lane is not None else "")


def burn_annotations(slo: Slo, pair: burn.Pair, long: str, short: str) -> dict[str, str]:
    factor = number(burn.factor(pair, slo.window_days))
    return {
        "summary": f"{slo.name}: the error budget of {where(slo)} burns {{{{ $value | humanize }}}} times too fast",
        "description": (
            f"Promised: {promise(slo)}. At {{{{ $value | humanize }}}} times the even pace over {long}, and above "
            f"{factor} times over the last {short} too, the budget does not last its window."
        ),
        "runbook": f"{RUNBOOKS}/slo-burn.md",
    }


def number(value: float) -> str:
    """Without a needless fraction, and never in a form that PromQL could not read."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
