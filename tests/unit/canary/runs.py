"""Records of runs as a controller would write them: one that was rolled back at 5 %, one that was promoted."""

import math
import random
from typing import Any

from rackserve.canary.judge.counts import METRICS, Cell, Metric, Slice, Tally, Window
from rackserve.canary.judge.rules import Rules
from rackserve.canary.judge.verdict import WORDS, judge
from rackserve.canary.report import record

BEGIN = 1_789_000_000.0
EDGES = (0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
RULES = Rules(tolerances={metric: 0.02 if metric.startswith("slow") else 0.005 for metric in METRICS})


def run(bad: bool = True, **changes: Any) -> record.Record:
    """`bad`: the canary's first tokens are twice as often late, which is found at 5 %."""
    draw = random.Random(7 if bad else 8)
    looks: dict[Metric, list[record.Evidence]] = {metric: [] for metric in METRICS}
    totals: dict[str, dict[record.Track, list[int]]] = {m: {t: [0, 0] for t in record.TRACKS} for m in METRICS}
    steps, shares = [], [record.SharePoint(at=BEGIN, canary=0, baseline=0)]
    at = BEGIN + 400.0
    for name, share in (("1 %", 10), ("5 %", 50), ("10 %", 100), ("25 %", 250)):
        start, window = at, Window()
        shares.append(record.SharePoint(at=at, canary=share, baseline=share))
        for _ in range(36):
            at += 10
            one = _slice(draw, 6 * share, 2.4 if bad and share >= 50 else 1.0)
            window = window.plus(one)
            for metric, cells in one.cells.items():
                for track, tally in (("canary", cells[0].canary), ("baseline", cells[0].baseline)):
                    totals[metric][track][0] += tally.bad  # type: ignore[index]
                    totals[metric][track][1] += tally.of  # type: ignore[index]
            verdict = judge(window, RULES)
            for finding in verdict.findings:
                looks[finding.metric].append(
                    record.Evidence(
                        at=at,
                        step=name,
                        canary=record.Tally(bad=finding.canary.bad, of=finding.canary.of),
                        baseline=record.Tally(bad=finding.baseline.bad, of=finding.baseline.of),
                        log_e=finding.log_e,
                        log_e_absolute=finding.log_e_absolute,
                    )
                )
            if verdict.outcome == "fail":
                break
        steps.append(
            record.Step(
                name=name, start=start, to=at, canary=share, baseline=share, outcome=verdict.outcome, reason=verdict.reason
            )
        )  # fmt: skip
        if verdict.outcome == "fail":
            break
    shares.append(record.SharePoint(at=at, canary=0, baseline=0))
    for metric in METRICS:
        totals[metric]["stable"] = [40, 30_000]
    failed = steps[-1].outcome == "fail"
    known: dict[str, Any] = {
        "run": "small-20260910-001",
        "pool": "small",
        "release_before": "small-1",
        "release": "small-2",
        "same_model": True,
        "who": "anna on desk-4",
        "started": BEGIN,
        "ended": at + 60,
        "outcome": "rolled_back" if failed else "promoted",
        "reason": steps[-1].reason,
        "false_rollback_percent": 1.0,
        "shares": tuple(shares),
        "steps": tuple(steps),
        "checks": (
            record.Check(name="Preflight", at=BEGIN, outcome="pass", reason="Both balancers agree; 61 % is left without it."),
            record.Check(name="Smoke", at=BEGIN + 200, outcome="pass", reason="All 4 trials passed: chat 0.31 s <ok> & more."),
            record.Check(name="Quality", at=BEGIN + 300, outcome="pass", reason="27 of 27 greedy answers agree."),
        ),
        "metrics": tuple(
            record.Metric(
                name=metric,
                words=WORDS[metric],
                decides=metric != "empty_answers",
                tolerance=RULES.tolerances[metric],
                log_limit=-math.log(RULES.alpha),
                totals={t: record.Tally(bad=b, of=n) for t, (b, n) in totals[metric].items()},
                looks=tuple(looks[metric]),
            )
            for metric in METRICS
        ),
        "histograms": (
            _histogram(draw, "Time to first token", 0.12, 1.9 if bad else 1.0),
            _histogram(draw, "Gap between tokens", 0.045, 1.0),
        ),
        "errors": (
            record.ErrorKind(what="503 no_engine", counts={"stable": 3, "canary": 17}),
            record.ErrorKind(what="stream cut", counts={"baseline": 211}),
        ),
        "gates": (
            record.Gate(step="10 %", opened=BEGIN + 900, decided=BEGIN + 960, by="bert on desk-9", decision="approved"),
        ),
        "acts": (
            record.Act(at=BEGIN, who="anna", where="desk-4", what="start"),
            record.Act(at=BEGIN + 400, who="controller", where="desk-4", what="share of small", before="0/0", after="10/10"),
            record.Act(at=at, who="controller", where="desk-4", what="share of small", before="50/50", after="0/0"),
        ),
        "notes": ("The pool has two engines, so stable is also the control: latency was judged at load parity only.",),
    }  # fmt: skip
    return record.Record(**(known | changes))


def _slice(draw: random.Random, requests: int, factor: float) -> Slice:
    rates: dict[Metric, float] = {"errors": 0.002, "cut_streams": 0.001, "empty_answers": 0.001, "slow_ttft": 0.05}
    number = max(1, requests // 10)
    cells = {}
    for metric in METRICS:
        rate = rates.get(metric, 0.03)
        worse = rate * (factor if metric == "slow_ttft" else 1.0)
        canary, baseline = (sum(draw.random() < chance for _ in range(number)) for chance in (worse, rate))
        cells[metric] = [Cell(Tally(canary, number), Tally(baseline, number))]
    return Slice(cells, number, number)


def _histogram(draw: random.Random, title: str, median: float, factor: float) -> record.Histogram:
    counts: dict[record.Track, tuple[int, ...]] = {}
    for track, number, slower in (("canary", 900, factor), ("baseline", 905, 1.0), ("stable", 4000, 1.0)):
        found = [0] * (len(EDGES) + 1)
        for _ in range(number):
            seconds = draw.lognormvariate(math.log(median * slower), 0.8)
            found[next((place for place, edge in enumerate(EDGES) if seconds <= edge), len(EDGES))] += 1
        counts[track] = tuple(found)  # type: ignore[index]
    return record.Histogram(title=title, edges=EDGES, counts=counts)
