"""Whether an engine may go, and what comes next: tables of cases, and what must hold for any numbers."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.fleet.drain.decide import CUT_SECONDS, SILENT_SECONDS, Kind, Step, Verdict, may_drain, next_step
from rackserve.fleet.drain.sight import Balancer, Engine, Page, Peak, Place, Sight

ENGINES = {
    "e1": Engine("e1", "small", "gpu1", "http://192.0.2.1:8001", 8),
    "e2": Engine("e2", "small", "gpu2", "http://192.0.2.2:8001", 8),
    "l2": Engine("l2", "large", "gpu2", "http://192.0.2.2:8002", 4),
}
UP = Place(drained=False, maintained=False, running=True, serving=True, streams=2)
OUT = Place(drained=True, maintained=False, running=True, serving=False, streams=0)
PEAKS: dict[str, Peak | str] = {"small": Peak(5, 86_400), "large": Peak(1, 86_400)}


def sight(places: dict[str, Place] | None = None, pages: dict[str, Page] | None = None, **more: Any) -> Sight:
    """Every engine in service at both balancers, but for what is said."""
    maintenance = more.pop("maintenance", {})
    engines = {**dict.fromkeys(ENGINES, UP), **(places or {})}
    balancers = {name: Balancer(name, engines, {}, 1000.0, maintenance) for name in ("lb1", "lb2")}
    known = {**{name: Page(4) for name in ENGINES}, **(pages or {})}
    values: dict[str, Any] = {"unreachable": {}, "peaks": PEAKS, "balancers": balancers, **more}
    return Sight(engines=ENGINES, pages=known, **values)


def step(seen: Sight, elapsed: float = 1, deadline: float = 60, cut: bool = False, force: bool = False) -> Step:
    return next_step(seen, ["e1"], elapsed, deadline, cut, force)


def test_an_engine_whose_load_the_others_carry_may_go() -> None:
    found = may_drain(sight(), ["e1"], force=False)
    assert found.verdict is Verdict.GO
    assert found.notes == ("the most of the last day in pool small was 5 requests at a time; e2 with 8 slots stay",)


def test_what_is_left_has_to_carry_the_peak() -> None:
    peaks = {**PEAKS, "small": Peak(9, 86_400)}
    found = may_drain(sight(peaks=peaks), ["e1"], force=False)
    assert found.verdict is Verdict.REFUSED
    assert "9 requests at a time; what would be left is e2 with 8 slots" in found.reasons[0]
    assert may_drain(sight(peaks=peaks), ["e1"], force=True).verdict is Verdict.GO


def test_engines_that_are_out_carry_nothing() -> None:
    found = may_drain(sight({"e2": OUT}), ["e1"], force=False)
    assert found.verdict is Verdict.REFUSED
    assert "the last in service of the pool small" in found.reasons[0]
    assert "scripts/maintenance on small" in found.reasons[0]


def test_a_node_is_refused_for_any_of_its_pools() -> None:
    found = may_drain(sight(), ["e2", "l2"], force=False)
    assert found.verdict is Verdict.REFUSED
    assert [reason.split(":")[0] for reason in found.reasons] == ["l2"]


@pytest.mark.parametrize(
    ("key", "ends", "verdict"), [("large", 1001, "go"), ("all", 1001, "go"), ("large", 999, "refused")]
)
def test_the_last_one_may_go_while_its_pool_is_in_maintenance(key: str, ends: int, verdict: str) -> None:
    assert may_drain(sight(maintenance={key: ends}), ["l2"], force=False).verdict == verdict


def test_nobody_takes_engines_from_a_pool_in_which_a_release_is_tried() -> None:
    balancers = sight().balancers
    seen = sight(balancers={**balancers, "lb2": replace(balancers["lb2"], shares={"small": "50/50"})})
    found = may_drain(seen, ["e1"], force=False)
    assert found.verdict is Verdict.REFUSED
    assert "a release is being tried in the pool small" in found.reasons[0]
    assert "lb2: 50/50" in found.reasons[0]
    assert may_drain(seen, ["e1"], force=True).verdict is Verdict.GO
    assert may_drain(seen, ["l2"], force=False).reasons[0].startswith("l2: the last"), "the other pool is not concerned"


def test_one_that_serves_nobody_may_always_go() -> None:
    assert may_drain(sight({"l2": OUT}, peaks={}), ["l2"], force=False).verdict is Verdict.GO


def test_what_is_not_known_is_neither_yes_nor_no() -> None:
    for seen in (
        sight(peaks={"small": "Prometheus could not be asked"}),
        sight(unreachable={"lb3": "no route"}),
        sight(balancers={"lb1": replace(sight().balancers["lb1"], old_unknown="no socket")}),
    ):
        found = may_drain(seen, ["e1"], force=False)
        assert (found.verdict, len(found.reasons)) == (Verdict.UNKNOWN, 1)
        forced = may_drain(seen, ["e1"], force=True)
        assert (forced.verdict, forced.reasons) == (Verdict.GO, found.reasons)


def test_a_short_memory_of_the_peak_is_told() -> None:
    found = may_drain(sight(peaks={"small": Peak(5, 5400)}), ["e1"], force=False)
    assert "of which 1 h 30 min are known" in found.notes[0]


def test_the_first_step_is_to_tell_the_balancers_that_still_send() -> None:
    seen = sight({"e1": OUT})
    balancers = {**seen.balancers, "lb2": sight().balancers["lb2"]}
    assert step(replace(seen, balancers=balancers)).balancers == ("lb2",)


def test_it_waits_until_balancers_and_engine_agree() -> None:
    running = replace(OUT, streams=1, old_streams=1)
    found = step(sight({"e1": running}, {"e1": Page(4)}))
    assert (found.kind, found.streams, found.seconds_left) == (Kind.WAIT, 4, 59)
    assert step(sight({"e1": OUT}, {"e1": Page(1)})).kind is Kind.WAIT, "the engine still runs one"
    assert step(sight({"e1": replace(OUT, old_streams=1)}, {"e1": Page(0)})).kind is Kind.WAIT
    assert step(sight({"e1": OUT}, {"e1": Page(0)})).kind is Kind.DONE


def test_when_the_time_is_up_it_is_held_or_cut_as_asked() -> None:
    running = sight({"e1": replace(OUT, streams=1)})
    assert (step(running, 60).kind, step(running, 60).streams) == (Kind.HELD, 2)
    assert step(running, 60, cut=True).kind is Kind.CUT
    assert step(running, 60 + CUT_SECONDS, cut=True).kind is Kind.HELD, "what does not end is told"
    assert step(sight({"e1": OUT}, {"e1": Page(1)}), 60, cut=True).kind is Kind.WAIT


def test_an_engine_that_says_nothing_counts_as_empty_only_when_its_checks_fail_too() -> None:
    silent = {"e1": Page(None, error="timed out")}
    dead = replace(OUT, running=False)
    assert step(sight({"e1": OUT}, silent), 30).kind is Kind.WAIT
    assert step(sight({"e1": dead}, silent), SILENT_SECONDS - 1).kind is Kind.WAIT
    assert step(sight({"e1": dead}, silent), SILENT_SECONDS).kind is Kind.DONE
    assert step(sight({"e1": OUT}, {"e1": Page(None, gone=True)})).kind is Kind.DONE, "nobody listens there"


def test_a_balancer_that_falls_silent_is_waited_for_and_then_told() -> None:
    seen = sight({"e1": OUT}, {"e1": Page(0)}, unreachable={"lb3": "no route"})
    assert step(seen).kind is Kind.WAIT
    assert step(seen, 60).kind is Kind.UNKNOWN
    assert step(seen, force=True).kind is Kind.DONE
    assert step(replace(seen, balancers={}), 60, force=True).kind is Kind.UNKNOWN, "nobody at all"


places = st.builds(
    Place,
    drained=st.booleans(),
    maintained=st.just(False),
    running=st.booleans(),
    serving=st.booleans(),
    streams=st.integers(0, 3),
    old_streams=st.integers(0, 3),
)
pages = st.builds(Page, st.none() | st.integers(0, 5).map(float), st.just(False))
times = st.floats(0, 200)


@given(places, pages, times, st.booleans(), st.booleans())
def test_nothing_is_ever_called_drained_while_somebody_says_that_it_runs(
    place: Place, page: Page, elapsed: float, cut: bool, force: bool
) -> None:
    found = step(sight({"e1": place}, {"e1": page}), elapsed, cut=cut, force=force)
    if found.kind is Kind.DONE:
        assert place.out
        assert not (place.streams)
        assert not (place.old_streams)
        assert not (page.requests)
    if found.kind is Kind.CUT:
        assert cut
        assert elapsed >= 60


@given(st.floats(0, 1000), st.floats(0, 1000), st.integers(0, 100), st.booleans())
def test_a_higher_peak_never_turns_a_refusal_into_leave(low: float, more: float, streams: int, force: bool) -> None:
    busy = {"e1": replace(UP, streams=streams)}
    first = may_drain(sight(busy, peaks={"small": Peak(low, 86_400)}), ["e1"], force)
    second = may_drain(sight(busy, peaks={"small": Peak(low + more, 86_400)}), ["e1"], force)
    assert not (first.verdict is Verdict.REFUSED and second.verdict is Verdict.GO)
