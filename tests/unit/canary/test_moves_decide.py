"""What differs from what should be, and an engine's way from track to track: decided from a look, with its reason."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.canary.moves.decide import Kind, Wrong, differences, next_step, restoring
from rackserve.canary.moves.share import NONE, Share, share_of
from rackserve.canary.moves.sight import Place, Seat, Sight
from rackserve.fleet.tracks import TRACKS

PACKAGE = Path(__file__).resolve().parents[3] / "scripts/rackserve/canary/moves"
WHERE = {"e1": "stable", "e2": "stable", "e3": "canary"}


def place(name: str, value: str | None = None, where: dict[str, str] = WHERE, **in_flight: int) -> Place:
    """A balancer that is as it should be. `in_flight`: engine_track -> requests."""
    seats = {
        track: {
            engine: Seat(own == track, True, in_flight.get(f"{engine}_{track}", 0)) for engine, own in where.items()
        }
        for track in TRACKS
    }
    return Place(name, value, value, seats, dict.fromkeys(TRACKS, 0))


def sight(*places: Place, **unreachable: str) -> Sight:
    return Sight("chat", {one.name: one for one in places}, unreachable)


def kinds(seen: Sight, share: Share | None = None) -> list[Wrong]:
    return [one.kind for one in differences(seen, share)]


def test_a_split_as_it_was_given_differs_in_nothing() -> None:
    assert kinds(sight(place("lb1", "50/50"), place("lb2", "50/50")), Share(50, 50)) == []
    assert kinds(sight(place("lb1"), place("lb2")), NONE) == []


@pytest.mark.parametrize(
    ("seen", "expected", "words"),
    [
        (sight(place("lb1", "50/50"), lb2="no route"), [Wrong.UNREACHABLE], "lb2: no route"),
        (sight(replace(place("lb1"), file_error="no such file")), [Wrong.UNREADABLE], "no such file"),
        (sight(replace(place("lb1", "half"))), [Wrong.NO_SHARE, Wrong.NO_SHARE], "'half', which is no share"),
        (sight(replace(place("lb1", "900/150"))), [Wrong.NO_SHARE, Wrong.NO_SHARE], "90 % and 15 % are more than all"),
        (sight(replace(place("lb1"), broken=("chat 5",))), [Wrong.NO_SHARE], "'chat 5'"),
        (sight(place("lb1", "70/50")), [Wrong.CHANGED, Wrong.CHANGED], "canary 7 %, baseline 5 %; canary 5 %"),
        (sight(replace(place("lb1", "50/50"), file=None)), [Wrong.CHANGED, Wrong.FILE], "the file says 0"),
        (
            sight(place("lb1", "50/50"), place("lb2", "60/50")),
            [Wrong.CHANGED, Wrong.CHANGED, Wrong.BALANCERS],
            "lb1: canary 5 %, baseline 5 %; lb2: canary 6 %",
        ),
    ],
)
def test_what_is_wrong_is_named_with_place_and_value(seen: Sight, expected: list[Wrong], words: str) -> None:
    found = differences(seen, Share(50, 50) if Wrong.CHANGED in expected else None)
    assert [one.kind for one in found] == expected
    assert words in " ".join(one.text for one in found)


def test_an_engine_in_two_tracks_in_none_or_in_different_ones_is_named() -> None:
    both = place("lb1")
    seats = {**both.seats, "canary": {**both.seats["canary"], "e1": Seat(True, True, 0)}}
    found = differences(sight(replace(both, seats=seats)))
    assert [(one.kind, one.text) for one in found] == [
        (Wrong.TRACK, "lb1: e1 is in stable and canary: it may get twice its slots")
    ]
    nowhere = {**both.seats, "canary": {**both.seats["canary"], "e3": Seat(False, True, 0)}}
    assert kinds(sight(replace(both, seats=nowhere))) == [Wrong.TRACK]
    other = place("lb2", where={**WHERE, "e2": "canary"})
    found = differences(sight(both, other))
    assert [one.text for one in found] == ["e2 is in different tracks: lb1: stable; lb2: canary"]


def test_an_idle_engine_leaves_first_and_enters_then() -> None:
    seen = sight(place("lb1"), place("lb2"))
    step = next_step(seen, "e2", "canary", 0)
    assert step.kind is Kind.LEAVE
    assert step.commands == dict.fromkeys(("lb1", "lb2"), ("set server pool-chat-stable/e2 state maint",))
    out = sight(place("lb1", where={**WHERE, "e2": "none"}), place("lb2", where={**WHERE, "e2": "none"}))
    step = next_step(out, "e2", "canary", 0)
    assert (step.kind, step.commands["lb2"]) == (Kind.ENTER, ("set server pool-chat-canary/e2 state ready",))
    done = sight(place("lb1", where={**WHERE, "e2": "canary"}), place("lb2", where={**WHERE, "e2": "canary"}))
    assert next_step(done, "e2", "canary", 0).kind is Kind.DONE


def test_what_runs_is_waited_for_and_refuses_when_the_time_is_up() -> None:
    seen = sight(place("lb1"), place("lb2", e2_stable=3))
    assert next_step(seen, "e2", "canary", 0).kind is Kind.REFUSED
    assert next_step(seen, "e2", "canary", 5).kind is Kind.LEAVE
    out = sight(place("lb1", where={**WHERE, "e2": "none"}), place("lb2", where={**WHERE, "e2": "none"}, e2_stable=3))
    step = next_step(out, "e2", "canary", 5)
    assert (step.kind, "3 at lb2" in step.reason) == (Kind.WAIT, True)
    assert next_step(out, "e2", "canary", 0).kind is Kind.REFUSED


def test_requests_of_old_processes_count_and_not_to_know_is_no_yes() -> None:
    first = place("lb1", where={**WHERE, "e2": "none"})
    seats = {**first.seats, "stable": {**first.seats["stable"], "e2": Seat(False, True, 0, old_requests=1)}}
    assert next_step(sight(replace(first, seats=seats)), "e2", "canary", 5).kind is Kind.WAIT
    assert next_step(sight(replace(first, old_error="no socket")), "e2", "canary", 5).kind is Kind.UNKNOWN
    assert next_step(sight(first, lb2="no route"), "e2", "canary", 5).kind is Kind.UNKNOWN
    assert next_step(sight(), "e2", "canary", 5).kind is Kind.UNKNOWN


def test_stable_is_never_left_empty() -> None:
    seen = sight(place("lb1", where={"e1": "stable", "e3": "canary"}))
    step = next_step(seen, "e1", "canary", 5)
    assert (step.kind, step.reason) == (Kind.REFUSED, "e1 is the last that serves in stable at lb1")
    assert next_step(seen, "e3", "stable", 5).kind is Kind.LEAVE
    assert next_step(seen, "e9", "stable", 5).kind is Kind.REFUSED


PLACES = st.builds(
    lambda enabled, busy: Place(
        "lb1",
        None,
        None,
        {
            track: {"e1": Seat(enabled[number], True, busy[number]), "e2": Seat(track == "stable", True, 0)}
            for number, track in enumerate(TRACKS)
        },
        dict.fromkeys(TRACKS, 0),
    ),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.integers(0, 2)] * 3),
)


@given(PLACES, st.sampled_from(TRACKS), st.booleans())
def test_whatever_is_found_an_engine_never_enters_while_it_runs_elsewhere(seen: Place, track: str, late: bool) -> None:
    step = next_step(sight(seen), "e1", track, 0 if late else 5)
    elsewhere = sum(seen.seats[other]["e1"].requests for other in TRACKS if other != track)
    told = " ".join(command for commands in step.commands.values() for command in commands)
    if "ready" in told or step.kind is Kind.DONE:
        assert elsewhere == 0
        assert set(seen.tracks_of("e1")) <= {track}
    assert step.kind is not Kind.WAIT or elsewhere


def test_restoring_brings_back_what_was() -> None:
    before = sight(place("lb1"), place("lb2"))
    now = sight(place("lb1", where={**WHERE, "e2": "none"}), place("lb2"))
    assert restoring(before, now, "e2") == {"lb1": ("set server pool-chat-stable/e2 state ready",)}


@pytest.mark.parametrize(
    ("share", "trial", "promotion"),
    [
        (Share(500, 500), True, True),
        (Share(501, 0), False, True),
        (Share(1000, 0), False, True),
        (Share(500, 501), False, False),
        (Share(-1, 0), False, False),
        (Share(0, 1000), True, True),
    ],
)
def test_half_is_the_most_for_a_canary_until_it_is_promoted(share: Share, trial: bool, promotion: bool) -> None:
    assert (share.refusal(promoting=False) == "", share.refusal(promoting=True) == "") == (trial, promotion)


def test_values_are_read_as_they_are_written_and_nothing_else_is_a_share() -> None:
    assert share_of(Share(50, 25).text) == Share(50, 25)
    assert share_of(None) == NONE
    assert [share_of(value) for value in ("", "50", "50/", "5 0/1", "a/b", "50/50/50", "-1/0")] == [None] * 7


@pytest.mark.parametrize("name", ["share", "sight", "decide", "show"])
def test_it_imports_and_calls_nothing_with_effects(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    effects = {"os", "pathlib", "socket", "subprocess", "sys", "time", "random", "threading"}
    assert {module.split(".")[0] for module in modules} & effects == set()
    assert {"rackserve.fleet.ssh", "rackserve.fleet.balancers"} & modules == set()
