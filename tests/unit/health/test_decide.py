"""When an engine is called hung, and when never; what is done about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.health.decide import STARVED_SECONDS, WARM_UP_SECONDS, deadline_is_short, deadline_seconds, limit_seconds
from rackserve.health.looks import Memory, Page, State, WarmUp
from unit.health.stories import RULES, SERVING, WARM, Story, busy, idle

LIMIT = RULES.stall_seconds + (WARM.step_seconds or 0)


def test_nothing_is_said_of_an_engine_before_it_moved() -> None:
    story = Story()
    assert story.look().word is None
    assert story.asked, "it is asked for a token at once"
    assert story.look(answers=200).word is True


def test_an_engine_with_traffic_is_up_without_being_asked_twice() -> None:
    story = Story()
    story.look(running=3)
    assert story.look(running=3, moved=True).word is True


def test_an_engine_whose_port_is_closed_is_down_at_once_and_not_asked() -> None:
    story = busy()
    decision = story.look(page=Page.REFUSED)
    assert (decision.word, decision.ask, decision.restart) == (False, False, False)
    assert decision.memory.state is State.ABSENT
    assert "8001" in decision.reason


def test_a_started_engine_is_down_until_it_gave_a_token_and_is_warm() -> None:
    story = Story()
    story.look(page=Page.REFUSED)
    assert story.look().word is False
    decision = story.look(answers=200)
    assert (decision.word, decision.warm_up) == (False, True)
    assert story.look().word is False
    decision = story.look(warmed=WARM)
    assert decision.word is True
    assert limit_seconds(decision.memory, RULES) == LIMIT


def test_an_engine_that_was_started_anew_between_two_looks_is_warmed_again() -> None:
    story = busy()
    story.started = 2.0
    assert story.look().word is False
    assert story.look(answers=200).warm_up


def test_an_engine_that_was_started_while_the_probe_was_away_is_not_taken_out_for_its_warm_up() -> None:
    story = Story(Memory(started=1.0, warm=WARM), started=2.0)
    story.look(running=2)
    decision = story.look(running=2, moved=True)
    assert decision.word is True
    assert decision.memory.warm is None


def test_what_was_measured_before_the_probe_was_restarted_counts_for_the_same_process() -> None:
    story = Story(Memory(started=1.0, warm=WARM))
    story.look(running=2)
    decision = story.look(running=2, moved=True)
    assert decision.memory.warm == WARM
    assert not decision.warm_up


@pytest.mark.parametrize("running", [8, 0])
def test_an_engine_that_stops_at_work_is_down_within_five_seconds_and_its_longest_step(running: int) -> None:
    """Gauges stay as they were, or read 0; either way."""
    story = busy()
    seconds = story.until_down(20, running=running)
    assert LIMIT <= seconds <= LIMIT + 0.25
    assert story.memory.state is State.HUNG
    assert "nothing has moved for" in story.said[-1].reason


def test_an_engine_that_stops_idle_is_down_after_the_deadline_of_one_token() -> None:
    story = idle()
    seconds = story.until_down(30)
    assert RULES.token_deadline_seconds <= seconds <= RULES.idle_seconds + RULES.token_deadline_seconds + 1
    assert "one token has not come" in story.said[-1].reason


def test_an_engine_that_gets_no_processor_is_not_called_hung_for_half_a_minute() -> None:
    story = busy()
    for _ in range(int(STARVED_SECONDS)):
        assert story.look(running=8, waits=0.95).word is True
    assert story.until_down(20, running=8, waits=0.95) > 0


def test_an_engine_that_waits_for_a_processor_now_and_then_is_found_nearly_as_soon() -> None:
    story = busy()
    assert story.until_down(20, running=8, waits=0.05) <= LIMIT + 1


def test_a_page_that_does_not_come_means_hung_although_connections_are_taken() -> None:
    story = busy()
    story.look(page=Page.NONE)
    decision = story.look(seconds=LIMIT - 0.1, page=Page.NONE)
    assert decision.word is True
    decision = story.look(seconds=0.2, page=Page.NONE)
    assert (decision.word, decision.memory.state) == (False, State.HUNG)


@given(
    st.lists(
        st.tuples(
            st.floats(0.05, LIMIT - 0.05), st.integers(0, 500), st.integers(0, 500), st.sampled_from([None, 0, 503])
        ),
        min_size=1,
        max_size=60,
    )
)
def test_an_engine_that_moves_is_never_called_hung_however_much_waits(
    steps: list[tuple[float, int, int, int | None]],
) -> None:
    """Our own question may wait in the queue for as long as it likes, or find no room."""
    story = busy()
    for seconds, running, waiting, answers in steps:
        decision = story.look(seconds, moved=True, running=running, waiting=waiting, answers=answers)
        assert decision.word is True, decision.reason


@given(st.floats(0.01, 60), st.integers(1, 64))
def test_a_longer_step_moves_the_limit_by_just_as_much(step: float, running: int) -> None:
    story = busy(warm=WarmUp(0.01, step))
    seconds = story.until_down(step + 10, running=running)
    assert step + RULES.stall_seconds - 0.01 <= seconds <= step + RULES.stall_seconds + 0.25


@pytest.mark.parametrize("make", [busy, idle])
def test_a_hung_engine_is_back_with_the_first_thing_that_moves(make: Callable[[], Story]) -> None:
    story = make()
    story.until_down(30)
    assert story.looks(5).word is False
    assert story.look(moved=True).word is True
    story = make()
    story.until_down(30)
    assert story.look(page=Page.NONE, answers=200).word is True


def test_an_idle_engine_is_asked_every_five_seconds_and_no_more_often() -> None:
    story = idle()
    for _ in range(60):
        story.look(answers=200)
    pauses = {round(after - before) for before, after in zip(story.asked[1:], story.asked[2:], strict=False)}
    assert pauses <= {5, 6}, pauses


def test_before_the_longest_step_is_known_the_deadline_of_a_token_stands_for_it() -> None:
    assert limit_seconds(Memory(), RULES) == RULES.stall_seconds + RULES.token_deadline_seconds
    assert limit_seconds(Memory(warm=WarmUp(1, None)), RULES) == RULES.stall_seconds + RULES.token_deadline_seconds


def test_an_unmeasured_engine_is_warmed_when_it_is_idle_and_stays_up() -> None:
    story = busy(warm=None)
    assert not story.look(running=8, moved=True).warm_up
    story.looks(3)
    decision = story.look(answers=200)
    later = story.look()
    assert [decision.warm_up, later.warm_up].count(True) == 1
    assert (decision.word, later.word) == (True, True)


def test_nobody_is_called_hung_while_it_is_warmed_up_within_its_minute() -> None:
    story = idle(warm=None)
    story.looks(3)
    assert story.warm_up_out is not None
    story.looks(int(WARM_UP_SECONDS) - 5)
    assert story.said[-1].word is True
    story.until_down(40)


@pytest.mark.parametrize("declared", [0.01, 0.09])
def test_a_deadline_below_twice_the_time_of_a_token_is_said_and_not_used(declared: float) -> None:
    rules = replace(RULES, token_deadline_seconds=declared)
    assert deadline_is_short(SERVING, rules)
    assert deadline_seconds(SERVING, rules) == 2 * WARM.token_seconds
    assert not deadline_is_short(SERVING, RULES)
    assert deadline_seconds(SERVING, RULES) == RULES.token_deadline_seconds


def test_an_engine_that_refuses_the_question_is_not_judged_by_it() -> None:
    story = idle()
    story.looks(8)
    for _ in range(40):
        assert story.look(answers=401).word is True
    assert "cannot be judged: HTTP 401" in story.said[-1].reason


def test_an_engine_without_counters_of_tokens_is_not_judged_by_them() -> None:
    story = Story(SERVING, marks=(None, None))
    for _ in range(40):
        story.look(running=8)
    assert story.said[-1].word is True
    assert "no counter of tokens" in story.said[-1].reason


def test_two_errors_in_a_row_take_an_engine_out_and_one_token_brings_it_back() -> None:
    story = idle()
    story.looks(6)
    assert story.look(answers=500).word is True
    story.looks(1)
    decision = story.look(answers=500)
    assert (decision.word, decision.memory.state) == (False, State.FAILING)
    assert "HTTP 500 said so" in decision.reason
    story.looks(1)
    assert story.look(answers=200).word is True


def test_a_page_that_breaks_twice_takes_an_engine_out_until_it_is_whole_again() -> None:
    story = busy()
    assert story.look(page=Page.BROKEN).word is True
    assert story.said[-1].next_seconds < 0.5
    assert story.look(page=Page.BROKEN).word is False
    assert story.look(running=8, moved=True).word is True


def test_an_engine_that_is_full_and_stands_still_hangs() -> None:
    """The API server refuses with 503 by its own counting, whatever the core does."""
    story = idle()
    story.looks(5)
    begin = story.now
    while story.look(seconds=0.5, answers=503).word:
        assert story.now - begin < 20
    assert story.memory.state is State.HUNG


def test_a_hung_engine_is_restarted_after_its_time_and_not_before() -> None:
    story = busy()
    story.until_down(10)
    hung = story.now
    while not story.look().restart:
        assert story.now - hung < 200
    assert RULES.restart_after_seconds <= story.now - hung <= RULES.restart_after_seconds + 1
    assert not story.looks(60).restart


def test_restarts_end_at_their_limit_and_that_is_said() -> None:
    story = busy()
    for _ in range(2000):
        story.look()
    restarts = [one for one in story.said if one.restart]
    assert len(restarts) == RULES.restarts_at_most
    assert story.said[-1].restart_limit
    assert "stays out" in story.said[-1].reason
    assert not any(one.restart_limit for one in story.said[:300])


def test_an_engine_that_comes_back_after_each_restart_and_hangs_again_is_restarted_three_times_an_hour() -> None:
    story = busy()
    for _ in range(12):
        begin = story.now
        while not story.look().restart and story.now - begin < 280:
            pass
        story.look(page=Page.REFUSED)
        story.started = (story.started or 0) + 1
        story.look()
        story.look(answers=200)
        story.look(warmed=WARM)
        story.look(moved=True, running=3)
    first_hour = [one for one in story.said if one.restart and one.memory.since < 1000 + 3600]
    assert len(first_hour) == RULES.restarts_at_most


def test_no_restart_where_none_is_allowed() -> None:
    story = busy()
    story.rules = replace(RULES, restarts_at_most=0)
    for _ in range(400):
        story.look()
    assert not any(one.restart for one in story.said)
    assert story.said[-1].restart_limit


def test_a_probe_that_was_restarted_goes_on_calling_a_hung_engine_down() -> None:
    story = Story(Memory(state=State.HUNG, since=950.0, started=1.0, warm=WARM))
    assert story.look().word is False
    assert story.memory.since == 950.0
    assert story.look(answers=200).word is True


WHAT = st.fixed_dictionaries(
    {
        "seconds": st.floats(0.01, 30),
        "page": st.sampled_from(Page),
        "moved": st.booleans(),
        "running": st.integers(0, 9),
        "waiting": st.integers(0, 9),
        "answers": st.sampled_from([None, 0, 200, 401, 500, 503]),
    }
)


@given(st.lists(WHAT, max_size=80))
def test_whatever_comes_one_question_is_out_at_a_time_and_looks_come_soon(looks: list[dict[str, Any]]) -> None:
    story = Story()
    for what in looks:
        before = story.token_out
        decision = story.look(**what)
        assert not (decision.ask and before is not None and story.token_out == before)
        assert not (decision.ask and decision.warm_up)
        assert 0 < decision.next_seconds <= 1
        assert decision.word is not None or decision.memory.state is State.NEW
        assert len(decision.memory.restarts) <= RULES.restarts_at_most
