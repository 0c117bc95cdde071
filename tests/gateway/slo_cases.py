"""Traffic of known shape, what the burn alerts have to do then by plain arithmetic, and how to break the rules."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rackserve.definition.burn import Pair, factor
from rackserve.definition.models.service import Service
from rackserve.definition.read import Definition
from rackserve.slo.rules import BUDGET_LEFT, EXHAUSTION, duration

Piece = tuple[int, float, float]
"""So many samples, good and bad requests in each."""
BUDGET = 0.001
SELECTOR = '{{job="{job}",node="{node}",origin="{origin}",pool="p",lane="chat",outcome="{outcome}"}}'


def definition(*slos: dict[str, Any]) -> Definition:
    engine = {"name": "p-1", "node": "g1", "port": 8001, "gpus": (0,)}
    service = Service.model_validate(
        {
            "name": "unit",
            "stage": "test",
            "models": {"m": {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 2048}},
            "releases": {"r": {"version": "1.0", "lock": "l", "model": "m"}},
            "pools": {
                "p": {
                    "release": "r",
                    "names": ("p",),
                    "slots": 4,
                    "queue": {"max_requests": 4, "timeout_seconds": 20.0},
                    "engines": (engine,),
                }
            },
            "lanes": {"chat": {"priority": 10}},
            "tenants": {"t": {"lane": "chat", "pools": ("p",)}},
            "engine_key": "0123456789abcdef",
            "slos": slos,
        }
    )
    return Definition(service, {}, {"balancers": ("lb1", "lb2")}, {})


def slo(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "pool": "p", "indicator": "availability", "objective_percent": 99.9, **changes}


def counter(steps: list[tuple[int, float]], start: float = 0) -> str:
    """Samples of a counter in promtool's notation: each piece grows by so much at each of so many samples."""
    text, value = [f"{start:.10g}"], start
    for samples, growth in steps:
        text.append(f"{value + growth:.10g}+{growth:.10g}x{samples - 1}")
        value += growth * samples
    return " ".join(text)


def requests(
    pieces: list[Piece], node: str = "lb1", job: str = "traffic", origin: str = "client"
) -> list[dict[str, str]]:
    """One balancer's counters."""
    grown = {"ok": [(n, good) for n, good, _ in pieces], "cut": [(n, bad) for n, _, bad in pieces]}
    return [
        {
            "series": "rackserve_requests_total" + SELECTOR.format(job=job, node=node, origin=origin, outcome=outcome),
            "values": counter(steps),
        }
        for outcome, steps in grown.items()
    ]


def firing(pair_window: str, minute: int, expected: int) -> dict[str, Any]:
    """How many alerts of that long window fire at that minute."""
    select = f'ALERTS{{alertname="SloBurn",alertstate="firing",window="{pair_window}"}}'
    return {
        "expr": f"count({select}) or vector(0)",
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": expected}],
    }


@dataclass(frozen=True)
class Shape:
    """Traffic with a burn: clean, burning, clean, in samples of `sample_minutes`. The burn brings twice the traffic."""

    pair: Pair
    sample_minutes: int
    pieces: list[Piece]

    def cumulated(self) -> list[tuple[float, float]]:
        """(valid, bad) after each sample."""
        sums = [(0.0, 0.0)]
        for samples, good, bad in self.pieces:
            sums += [(sums[-1][0] + (good + bad) * n, sums[-1][1] + bad * n) for n in range(1, samples + 1)]
        return sums

    def burning(self, at: int, seconds: int, window_days: int = 30, budget: float = BUDGET) -> bool:
        """Whether the window that ends at this sample burns faster than the pair's factor."""
        sums = self.cumulated()
        begin = sums[max(0, at - seconds // 60 // self.sample_minutes)]
        valid, bad = sums[at][0] - begin[0], sums[at][1] - begin[1]
        return valid > 0 and bad / valid / budget > factor(self.pair, window_days)

    def expected(self) -> list[bool]:
        """For each sample whether the alert fires."""
        ends = range(len(self.cumulated()))
        return [self.burning(at, self.pair.long_seconds) and self.burning(at, self.pair.short_seconds) for at in ends]


def burst(pair: Pair, times: float, days: int = 30, sample_minutes: int = 1) -> Shape:
    """A clean long window, then a burn at `times` the factor for a whole one, then clean again."""
    long, short = (seconds // 60 // sample_minutes for seconds in (pair.long_seconds, pair.short_seconds))
    bad = round(20000 * sample_minutes * factor(pair, days) * BUDGET * times)
    calm, burning = 10000 * sample_minutes, 20000 * sample_minutes
    return Shape(pair, sample_minutes, [(long + 6, calm, 0.0), (long, burning - bad, bad), (2 * short, calm, 0.0)])


def changes(expected: list[bool]) -> list[int]:
    """The samples at which the answer differs from the one before."""
    return [at for at in range(1, len(expected)) if expected[at] != expected[at - 1]]


def burst_checks(shape: Shape) -> list[dict[str, Any]]:
    """Both sides of every change. A window of sums holds the piece at its edge too (2.53): one sample of tolerance.

    The long window decides when an alert begins, the short one when it ends.
    """
    expected, window = shape.expected(), duration(shape.pair.long_seconds)

    def slack(at: int) -> int:
        deciding = shape.pair.long_seconds if expected[at] else shape.pair.short_seconds
        return 0 if deciding <= 3600 else 1

    at = sorted({at + side for at in changes(expected) for side in (-1 - slack(at), slack(at))})
    return [firing(window, sample * shape.sample_minutes, int(expected[sample])) for sample in at]


def sustained(pair: Pair, times: float, samples: int, sample_minutes: int) -> list[Piece]:
    """A burn at `times` the factor from the start."""
    bad = round(10_000 * sample_minutes * factor(pair, 30) * BUDGET * times)
    return [(samples, 10_000 * sample_minutes - bad, bad)]


def few(pair: Pair, failures: int, per_hour: int) -> tuple[list[dict[str, str]], int]:
    """So many requests for each hour of the long window, then failures all at once. (Series, the minute to look at.)

    Sums do not care when in their window something was, so that an hour of samples does for all windows.
    """
    asked = per_hour * pair.long_seconds // 3600
    good = [minute * asked // 60 for minute in range(61)] + [asked] * 6
    bad = [0] * 61 + [failures] * 6
    step = 1 if pair.long_seconds <= 3600 else 5
    series = requests([(1, 0, 0)])
    texts = (" ".join(map(str, [*values[::step]])) for values in (good, bad))
    return [{**one, "values": text} for one, text in zip(series, texts, strict=True)], 61 if step == 1 else 65


def rule_test(series: list[dict[str, str]], checks: list[dict[str, Any]], minutes: int = 1) -> dict[str, Any]:
    """A test of the rule file that has its name."""
    return {
        "evaluation_interval": f"{minutes}m",
        # Else promtool takes groups in any order, and the newest sums are there or not.
        "group_eval_order": ["slo-s-sums", "slo-s"],
        "tests": [{"interval": f"{minutes}m", "input_series": series, "promql_expr_test": checks}],
    }


def of_pair(groups: list[dict[str, Any]], pair: Pair) -> list[dict[str, Any]]:
    """Only what the alert of one pair needs, so that promtool has little to do."""
    wanted = {duration(pair.long_seconds), duration(pair.short_seconds), None}
    alert = duration(pair.long_seconds)
    return [
        {
            **group,
            "rules": [
                rule
                for rule in group["rules"]
                if (rule["labels"]["window"] == alert if "alert" in rule else rule["labels"].get("window") in wanted)
                and rule.get("record") not in (BUDGET_LEFT, EXHAUSTION)
            ],
        }
        for group in groups
        if group["name"] == "slo-s" or (group["name"] == "slo-s-sums" and pair.long_seconds > 3600)
    ]


_FLIPS = {">=": "<", "<=": ">", ">": "<", "<": ">", "==": "!=", "!=": "=="}
# A number that stands alone: not inside a name, a label's value or a window.
_TOKENS = re.compile(
    r'"[^"]*"|\[(?P<window>\d+[smhd])(?P<step>:\d+s)?\]|(?P<comparison>>=|<=|==|!=|>|<)'
    r"|(?<![\w.])(?P<number>\d+(?:\.\d+)?)(?![\w.])"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def mutants(expression: str, counts: bool = False) -> Iterator[tuple[str, str]]:
    """(what was changed, the expression with it): every window and number larger and smaller, every comparison.

    counts: small whole numbers count something, so that only the next whole number is another one.
    """
    for found in _TOKENS.finditer(expression):
        if window := found["window"]:
            # Nothing times a sum stays nothing, whatever it is summed over.
            if " or 0 * " in expression[: found.start()]:
                continue
            size = int(window[:-1]) * _SECONDS[window[-1]]
            new = [f"[{other}s{found['step'] or ''}]" for other in (size * 2, size // 2)]
        elif comparison := found["comparison"]:
            new = [_FLIPS[comparison]]
        elif counts and (number := found["number"]) in {"1", "2", "3", "4"}:
            new = [str(int(number) + 1), str(int(number) - 1)]
        elif number := found["number"]:
            new = [f"{float(number) * scale:g}" for scale in (1.6, 0.6)] if float(number) else ["1"]
        else:
            continue
        for one in new:
            changed = expression[: found.start()] + one + expression[found.end() :]
            yield f"{found[0]} at {found.start()} -> {one}", changed


def mutate(groups: list[dict[str, Any]], group: int, rule: int, expression: str) -> list[dict[str, Any]]:
    changed = copy.deepcopy(groups)
    changed[group]["rules"][rule]["expr"] = expression
    return changed
