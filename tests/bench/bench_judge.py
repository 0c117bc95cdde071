"""The canary's judge on simulated traffic: false alarms, bad events needed against the least that theory allows, speed.

Traffic comes in bursts, and now and then a track stalls, so that half of its requests of a slice are slow for one cause. The
judge is asked after every slice. "Least": log(1/alpha) over the divergence of the two binomials, for one look at the right time.
"""

import argparse
import dataclasses
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import store
from rackserve.canary.judge.counts import METRICS, Window
from rackserve.canary.judge.rules import Rules
from rackserve.canary.judge.verdict import judge
from unit.canary.simulate import World, slices

# One metric decides with the whole accepted share, so that the figures are of the test and not of how it is split.
RULES = Rules(tolerances={}, false_rollback=0.01, measured_only=frozenset(set(METRICS) - {"slow_ttft"}))
STEADY = World(stall=0, slices=600)
STALLS = World(slices=240)


def first_fail(world: World, seed: int) -> Window | None:
    seen = Window(world.share)
    for one in slices(world, seed):
        seen = seen.plus(one)
        if judge(seen, RULES).outcome == "fail":
            return seen
    return None


def false_alarms(world: World, runs: int) -> float:
    return sum(first_fail(world, seed) is not None for seed in range(runs)) / runs


def needed(world: World, runs: int) -> dict[str, float]:
    """Bad events of both tracks until the judge says fail."""
    share = world.share
    true = world.factor * share / (world.factor * share + 1 - share)
    divergence = true * math.log(true / share) + (1 - true) * math.log((1 - true) / (1 - share))
    least = -math.log(RULES.alpha) / divergence
    found = [first_fail(world, seed) for seed in range(runs)]
    events = [one.of("slow_ttft").canary.bad + one.of("slow_ttft").baseline.bad for one in found if one]
    return {
        "found": round(len(events) / runs, 3),
        "bad_events_median": statistics.median(events),
        "least": round(least, 1),
        "times_least": round(statistics.median(events) / least, 2),
    }


def per_second() -> float:
    seen = Window()
    for one in slices(STALLS, 1):
        seen = seen.plus(one)
    rules = Rules(tolerances={"errors": 0.005, "slow_ttft": 0.05}, limits={"slow_ttft": 0.1})
    begin, number = time.process_time(), 0
    while time.process_time() < begin + 2:
        judge(seen, rules)
        number += 1
    return round(number / (time.process_time() - begin))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: tests/bench/bench_judge.py")
    parser.add_argument("--runs", type=int, default=1000, help="simulated runs of equal releases")
    arguments = parser.parse_args()
    slow = dataclasses.replace(STEADY, rate=0.05, requests=20)
    store(
        "judge",
        f"tests/bench/bench_judge.py {' '.join(sys.argv[1:])}".strip(),
        {
            "accepted_false_rollbacks": RULES.false_rollback,
            "false_rollbacks_steady": false_alarms(dataclasses.replace(STEADY, slices=240), arguments.runs),
            "false_rollbacks_bursts_and_stalls": false_alarms(STALLS, arguments.runs),
            "found": {
                f"{factor:g} times as many, {name}": needed(
                    dataclasses.replace(slow, factor=factor, share=share), arguments.runs // 10
                )
                for factor in (1.5, 2.0, 3.0, 5.0)
                for share, name in ((0.5, "baseline as large as the canary"), (0.05, "5 % against all others"))
            },
            "judgements_per_second_of_one_core": per_second(),
        },
    )


if __name__ == "__main__":
    main()
