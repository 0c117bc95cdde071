"""What a run is told at its start: levels, gates, engines; and what is refused with what is possible instead."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from rackserve.canary.run.figures import between
from rackserve.canary.run.forecast import forecast, lines
from rackserve.canary.run.plan import Plan, Refused, Wish, plan_of
from rackserve.canary.run.world import Source

from .played import canary_of, plan


def levels(the_plan: Plan) -> list[tuple[str, int, int]]:
    return [(one.name, one.share.canary, one.share.baseline) for one in the_plan.levels]


def test_no_engine_gets_more_than_its_equal_part() -> None:
    eight = plan(8, steps_percent=(1.0, 5.0, 10.0, 25.0))
    assert levels(eight) == [
        ("1 %", 10, 10), ("5 %", 50, 50), ("10 %", 100, 100), ("load parity (12.5 %)", 125, 125),
    ]  # fmt: skip
    assert eight.notes == ("25 % is left out: one of 8 engines carries 12.5 %",)


def test_half_is_load_parity_of_two() -> None:
    two = plan(2, steps_percent=(10.0, 50.0))
    assert levels(two) == [("10 %", 100, 0), ("load parity (50 %)", 500, 0)]


def test_the_gate_of_a_step_that_is_left_out_is_not_lost() -> None:
    eight = plan(8, steps_percent=(1.0, 25.0), gates=(25.0,), load_parity=False)
    assert [(one.share.canary, one.gate) for one in eight.levels] == [(10, None), (125, 25.0)]


def test_without_load_parity_the_steps_are_all_and_two_engines_are_told_what_that_means() -> None:
    two = plan(2, steps_percent=(10.0,), load_parity=False)
    assert levels(two) == [("10 %", 100, 0)]
    assert "latency before promotion not at all (load_parity is false)" in two.notes[-1]


def test_the_baseline_is_on_another_node_where_there_is_one() -> None:
    nodes = {"e1": "gpu1", "e2": "gpu2", "e3": "gpu1"}
    wish = Wish("r1", "small", "new", "old", "ann", 0, ("e1", "e2", "e3"), nodes, 1)
    assert (plan_of(wish, canary_of()).canary, plan_of(wish, canary_of()).baseline) == ("e3", "e2")
    chosen = plan_of(dataclasses.replace(wish, canary="e2"), canary_of())
    assert (chosen.canary, chosen.baseline, chosen.order) == ("e2", "e1", ("e1", "e3"))


def test_a_pool_that_needs_all_but_one_has_no_baseline() -> None:
    three = plan(3, fewest=2)
    assert (three.baseline, three.control) == (None, "stable")
    assert "stable is also the control" in three.notes[-1]


def test_what_cannot_be_says_what_can() -> None:
    wish = Wish("r1", "small", "new", "old", "ann", 0, ("e1",), {}, 1)
    with pytest.raises(
        Refused, match=r"has one engine .*add a second engine, or announce it .scripts/maintenance on small"
    ):
        plan_of(wish, canary_of())
    four = dataclasses.replace(wish, engines=("e1", "e2", "e3", "e4"))
    with pytest.raises(Refused, match="has 3 engines, and today's peak needs 4: start at a quieter time"):
        plan_of(dataclasses.replace(four, fewest=4), canary_of())
    with pytest.raises(Refused, match="engine e9 is not of pool small; its engines: e1, e2, e3, e4"):
        plan_of(dataclasses.replace(four, canary="e9"), canary_of())
    with pytest.raises(Refused, match=r"0.01 % is less than a thousandth of the requests; the least is 0.1"):
        plan_of(four, canary_of(steps_percent=(0.01,)))


def test_what_it_takes_is_told_before() -> None:
    four = plan(4, gates=(10.0,), minimum_requests=300, observe_seconds=60.0)
    told = lines(four, forecast(four, 10, {"errors": 0.001, "slow_ttft": 0.03}), 10)
    assert told[0] == "pool small: 10 requests/s; the steps take 17 min at least"
    assert (
        told[1]
        == (
            "5 %: 605 s at least; will hold: 300 canary requests within 10 min need 10 requests/s: wait for a busier hour"
        )
        or told[1] == "5 %: 10 min at least"
    )
    assert any(one.startswith("10 %: ") and one.endswith("waits for an approval of 10 %") for one in told)
    assert any("at twice what is allowed: found after" in one for one in told)


def test_with_little_or_no_traffic_the_forecast_says_that_it_will_hold() -> None:
    four = plan(4)
    told = lines(four, forecast(four, 0.5, {}), 0.5)
    assert told[1] == (
        "5 %: 67 min at least; will hold: 100 canary requests within 10 min need 3.33 requests/s: wait for a busier hour"
    )
    assert (
        lines(four, forecast(four, 0, {}), 0)[0]
        == "pool small: 0 requests/s; the steps take for ever (no traffic) at least"
    )


def source(epoch: str, canary: int, bad: int) -> Source:
    cells = {"errors": {"canary": {"": (bad, canary)}, "baseline": {"": (0, canary)}}}
    return Source(epoch, {"canary": canary, "baseline": canary, "stable": 0}, cells)  # type: ignore[arg-type]


def test_sums_of_several_sources_are_added_and_what_began_anew_is_void() -> None:
    before = {"lb1": source("a", 10, 1), "lb2": source("b", 20, 0)}
    one = between(before, {"lb1": source("a", 15, 2), "lb2": source("b", 30, 4)}, "baseline")
    assert (one.canary_requests, one.baseline_requests, one.void) == (15, 15, "")
    assert sorted((cell.canary.bad, cell.canary.of) for cell in one.cells["errors"]) == [(1, 5), (4, 10)]
    again = between(before, {"lb1": source("a", 15, 2), "lb2": source("c", 30, 4)}, "baseline")
    fell = between(before, {"lb1": source("a", 9, 1), "lb2": source("b", 30, 4)}, "baseline")
    gone = between(before, {"lb1": source("a", 15, 2)}, "baseline")
    assert again.void == "the counters of lb2 began anew"
    assert fell.void == "the counters of lb1 began anew"
    assert gone.void == "the counters of lb2 came or went"


_PURE = (
    "plan",
    "record",
    "figures",
    "tasks",
    "goto",
    "after",
    "adrift",
    "orders",
    "decide",
    "preflight",
    "forecast",
    "world",
)
_CHECK = """
import sys
allowed = set(sys.modules)
from pydantic import BaseModel
import rackserve.definition.models.canary
allowed |= set(sys.modules)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(f"rackserve.canary.run.{name}")
print(*sorted(one for one in set(sys.modules) - allowed))
"""


def test_what_decides_imports_nothing_that_does_anything() -> None:
    scripts = Path(__file__).resolve().parents[3] / "scripts"
    command = [sys.executable, "-c", _CHECK, *_PURE]
    done = subprocess.run(command, env={"PYTHONPATH": str(scripts)}, capture_output=True, text=True, check=True)
    strangers = [one for one in done.stdout.split() if not one.startswith(("rackserve.canary", "pydantic"))]
    assert strangers == []
    assert "rackserve.canary.run.journal" not in done.stdout.split()
