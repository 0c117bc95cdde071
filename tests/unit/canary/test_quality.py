"""Does the gate stop what is damaged and pass what is not: a small model behind the real asker and judge."""

import dataclasses
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from rackserve.canary.quality.answers import Answer, Failure, Refusal, Scored, Sheet, Token
from rackserve.canary.quality.compare import compare, compare_short, shift
from rackserve.canary.quality.rules import Rules, rules_of
from rackserve.canary.quality.verdict import Verdict, judge
from rackserve.definition.models.canary import Quality

from .sheets import sheet, shipped
from .tiny_model import Model, without_roles

SAME = rules_of(Quality(), same_model=True)
NEW = rules_of(Quality(), same_model=False)
STEADY = Model(noise=0.25)


@cache
def baseline() -> Sheet:
    return sheet(STEADY, 1)


def gate(canary: Model, rules: Rules = SAME) -> Verdict:
    return judge(shipped(), baseline(), sheet(canary, 2, "small-gpu2"), rules, sheet(STEADY, 3))


def test_equal_releases_pass_two_hundred_times_though_their_answers_part() -> None:
    sheets = [sheet(STEADY, run) for run in range(102)]
    pairs = [*pairwise(sheets), *zip(sheets, sheets[2:], strict=False)]
    verdicts = [judge(shipped(), first, second, SAME) for first, second in pairs]
    assert len(verdicts) > 200
    assert [one.reason for one in verdicts if one.outcome != "pass"] == []
    ties = sum(part.near_tie for one in verdicts for part in one.comparisons)
    assert ties > 200, "the model has near ties that batching decides, or this shows nothing"


def test_a_pass_says_how_alike_they_are() -> None:
    verdict = gate(STEADY)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("Answers as the baseline: 27 of 27 greedy answers agree (100 %, required 99 %)")
    assert "(text " in verdict.reason
    assert "allowed 0.05)" in verdict.reason


DAMAGES = {
    "wrong template": (Model(noise=0.25, template=without_roles), "its question becomes other tokens ("),
    "permuted tokenizer": (Model(noise=0.25, permuted=True), "its question becomes other tokens ("),
    "perturbed weights": (Model(noise=0.25, weights=0.1), "Other "),
    "other weights": (Model(noise=0.25, seed=2), "Other answers than the baseline's"),
    "coarser numbers": (Model(noise=2), "Other "),
    "does not end": (Model(noise=0.25, ends=False), "Other answers than the baseline's"),
    "says nothing": (Model(noise=0.25, mute=True), "the same tokens become another text"),
    "other letters": (Model(noise=0.25, decodes={ord("e"): "x"}), "the same tokens become another text"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_stopped_and_the_worst_prompt_is_named(damage: str) -> None:
    model, said = DAMAGES[damage]
    verdict = gate(model)
    assert (verdict.outcome, said in verdict.reason) == ("fail", True), verdict.reason
    named = [*(one.name for one in shipped().prompts), *(one.name for one in shipped().texts)]
    assert any(name in verdict.reason for name in named)


def test_weights_that_change_no_answer_are_found_in_the_log_probabilities() -> None:
    """Every place has a token that is far ahead, so all answers agree; the texts tell."""
    theirs = baseline()
    texts = {
        name: dataclasses.replace(one, log_probabilities=tuple(value - 0.06 for value in one.log_probabilities))
        for name, one in theirs.texts.items()
        if isinstance(one, Scored)
    }
    verdict = judge(shipped(), theirs, dataclasses.replace(theirs, texts=texts), SAME)
    assert verdict.outcome == "fail"
    assert "differs by up to 0.06 (text " in verdict.reason
    assert verdict.reason.endswith("allowed 0.05), the canary holds it less likely.")


def scattered(by: float) -> Verdict:
    """Single log-probabilities that move to both sides, so that their mean does not show it."""
    theirs = baseline()
    texts = {
        name: dataclasses.replace(
            one, log_probabilities=tuple(v + (by if at % 2 else -by) for at, v in enumerate(one.log_probabilities))
        )
        for name, one in theirs.texts.items()
        if isinstance(one, Scored)
    }
    return judge(shipped(), theirs, dataclasses.replace(theirs, texts=texts), SAME)


def test_scatter_counts_though_its_mean_is_nothing() -> None:
    assert scattered(0.099).outcome == "pass"
    verdict = scattered(0.101)
    assert verdict.outcome == "fail"
    assert "single log-probabilities differ by 0.101 on average" in verdict.reason


def token(name: str, log_probability: float, **likely: float) -> Token:
    return Token(name, log_probability, {name: log_probability, **likely})


def answer(*tokens: Token, finish: str = "stop", text: str = "a", **more: Any) -> Answer:
    return Answer(text, tokens, finish, **more)


@pytest.mark.parametrize(("gap", "near"), [(0.25, True), (0.26, False)])
def test_a_parting_is_chance_up_to_the_tie(gap: float, near: bool) -> None:
    """Both prefer their own token by `gap`: together twice that, against a tie of 0.5."""
    theirs = answer(token("a", -0.5), token("b", -0.5, c=-0.5 - gap))
    ours = answer(token("a", -0.5), token("c", -0.5, b=-0.5 - gap))
    found = compare("one", theirs, ours, SAME.tie)
    assert (found.near_tie, found.agrees, found.common) == (near, near, 1)


def test_a_token_that_the_other_engine_does_not_even_name_is_no_tie() -> None:
    found = compare("one", answer(token("b", -0.5)), answer(token("c", -0.5, b=-0.5)), SAME.tie)
    assert (found.agrees, found.how) == (
        False,
        "parts after 0 tokens, gap unknown, more than all tokens named: no near tie",
    )


def test_another_end_is_another_answer() -> None:
    theirs, longer = answer(token("a", -0.1)), answer(token("a", -0.1), token("b", -0.1), finish="length")
    assert compare("one", theirs, longer, 9).how == "ends by length after 2 tokens, not by stop after 1"
    stopped = answer(token("a", -0.1), stopped_by="three")
    assert compare("one", stopped, theirs, 9).how == 'ends by stop after 1 tokens, not by stop at "three" after 1'
    assert compare("one", stopped, stopped, 9).agrees


def test_without_token_numbers_the_answers_decide() -> None:
    theirs = answer(token("a", -0.1), prompt=(1, 2))
    assert compare("one", theirs, answer(token("a", -0.1)), 9).agrees
    assert not compare("one", theirs, answer(token("a", -0.1), prompt=(1, 3)), 9).agrees


@pytest.mark.parametrize(("percent", "outcome"), [(75.0, "pass"), (75.1, "fail")])
def test_agreement_is_judged_at_the_declared_edge(percent: float, outcome: str) -> None:
    reference = shipped().model_copy(update={"prompts": shipped().prompts[:4]})
    theirs = baseline()
    strange = {**theirs.answers, reference.prompts[2].name: answer(token("z", -0.1), text="z")}
    verdict = judge(
        reference, theirs, dataclasses.replace(theirs, answers=strange), dataclasses.replace(SAME, agreement_percent=percent)
    )  # fmt: skip
    assert verdict.outcome == outcome
    assert "3 of 4 greedy answers agree (75 %" in verdict.reason


@pytest.mark.parametrize(("by", "outcome"), [(0.0499, "pass"), (0.0501, "fail")])
def test_a_shift_is_judged_at_the_declared_edge(by: float, outcome: str) -> None:
    theirs = baseline()
    name = shipped().texts[3].name
    one = theirs.texts[name]
    assert isinstance(one, Scored)
    better = dataclasses.replace(one, log_probabilities=tuple(value + by for value in one.log_probabilities))
    verdict = judge(shipped(), theirs, dataclasses.replace(theirs, texts={**theirs.texts, name: better}), SAME)
    assert verdict.outcome == outcome, verdict.reason
    assert f"text {name}, allowed 0.05" in verdict.reason


def test_a_text_of_other_tokens_is_another_tokenizer() -> None:
    theirs = baseline()
    texts = sheet(dataclasses.replace(STEADY, permuted=True)).texts
    verdict = judge(shipped(), theirs, dataclasses.replace(theirs, texts=texts), SAME)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("Another tokenizer than the baseline's: text english becomes other tokens (60 ")
    assert shift("x", Scored((1, 2, 3), (-1.0, -1.0)), Scored((1, 9), (-4.0,))).mean == -1.0


def test_how_unlikely_the_impossible_is_does_not_count() -> None:
    theirs, ours = Scored((1, 2, 3), (-40.0, -1.0)), Scored((1, 2, 3), (-43.0, -1.0))
    assert shift("x", theirs, ours).differences == (0.0, 0.0)
    assert shift("x", theirs, Scored((1, 2, 3), (-3.0, -1.0))).mean == 6.0, "what becomes possible does"


def test_who_cannot_be_asked_is_no_verdict() -> None:
    gone = Sheet("small-gpu2", unreachable="connection refused")
    for pair in ((gone, baseline()), (baseline(), gone)):
        verdict = judge(shipped(), *pair, SAME)
        assert (verdict.outcome, verdict.reason) == (
            "source_unreachable", "small-gpu2 could not be asked: connection refused."
        )  # fmt: skip


def with_answer(said: Answer | Refusal | Failure, name: str = "prose") -> Sheet:
    return dataclasses.replace(baseline(), answers={**baseline().answers, name: said})


def test_a_failure_counts_against_the_canary_and_not_for_it() -> None:
    broken = with_answer(Failure("no answer within 60 s"))
    verdict = judge(shipped(), baseline(), broken, SAME)
    assert (verdict.outcome, verdict.reason) == ("fail", "The canary failed at prompt prose: no answer within 60 s.")
    assert judge(shipped(), baseline(), broken, NEW).outcome == "fail"
    other = judge(shipped(), broken, baseline(), SAME)
    assert (other.outcome, other.reason) == (
        "inconclusive",
        "The baseline failed at prompt prose: no answer within 60 s.",
    )
    worse = with_answer(Failure("status 500: broken"), "german")
    assert judge(shipped(), broken, worse, SAME).outcome == "fail", "what the canary did wrong is not excused"


def test_what_both_refuse_is_no_difference_and_what_one_refuses_is() -> None:
    refused = with_answer(Refusal(400, "no system role"))
    assert judge(shipped(), refused, refused, SAME).outcome == "pass"
    for pair in ((refused, baseline()), (baseline(), refused)):
        assert judge(shipped(), *pair, SAME).outcome == "fail"
    nothing = dataclasses.replace(baseline(), answers=dict.fromkeys(baseline().answers, Refusal(404, "no such path")))
    assert judge(shipped(), nothing, nothing, SAME).outcome == "inconclusive"
    assert judge(shipped(), nothing, nothing, NEW).outcome == "inconclusive"


def test_a_prompt_that_was_forgotten_is_not_passed_over() -> None:
    fewer = dataclasses.replace(baseline(), answers={})
    assert judge(shipped(), baseline(), fewer, SAME).outcome == "fail"
    one_less = dataclasses.replace(baseline(), answers={k: v for k, v in baseline().answers.items() if k != "prose"})
    verdict = judge(shipped(), one_less, one_less, SAME)
    assert (verdict.outcome, verdict.reason) == ("inconclusive", "The baseline failed at prompt prose: was not asked.")


def test_what_the_baseline_does_not_repeat_is_not_asked_of_the_canary() -> None:
    other = answer(token("z", -0.1), text="z")
    verdict = judge(shipped(), baseline(), with_answer(other), SAME, with_answer(other))
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith("1 left out, because the baseline does not repeat them itself.")
    assert verdict.left_out is not None
    assert list(verdict.left_out) == ["prose"]


def test_a_baseline_that_repeats_nothing_judges_nobody() -> None:
    verdict = judge(shipped(), baseline(), baseline(), SAME, sheet(Model(seed=3), 1))
    assert verdict.outcome == "inconclusive"
    assert "does not repeat" in verdict.reason
    noisy = Model(noise=1, ties=False)
    verdict = judge(
        shipped(), sheet(noisy, 1), sheet(noisy, 2), dataclasses.replace(SAME, tolerance=0.07), sheet(noisy, 3)
    )
    assert verdict.outcome == "inconclusive"
    assert "when it is asked twice" in verdict.reason


def test_a_new_model_is_not_judged_unless_a_bound_is_declared() -> None:
    other = Model(seed=9)
    verdict = gate(other, NEW)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("Not judged, because the model is new and new_model_agreement_percent is not set")
    bound = rules_of(Quality(new_model_agreement_percent=50), same_model=False)
    verdict = gate(other, bound)
    assert verdict.outcome == "fail"
    assert "of 8 short answers agree (" in verdict.reason
    assert "; to capital it says " in verdict.reason
    sure = sheet(Model(ties=False), 1)
    retold = {
        name: dataclasses.replace(one, text=f" {one.text.upper()}!", tokens=(), prompt=())
        for name, one in sure.answers.items()
        if isinstance(one, Answer)
    }
    verdict = judge(shipped(), sure, dataclasses.replace(sure, answers=retold), bound)
    assert (verdict.outcome, "8 of 8 short answers agree" in verdict.reason) == ("pass", True), "the same words"
    mute = gate(dataclasses.replace(other, mute=True), NEW)
    assert mute.outcome == "fail", "an answer without text is none, whatever the model"
    assert mute.reason == "The canary says nothing to 27 of 27 prompts that the baseline answers, such as capital."


def test_short_answers_are_compared_by_their_words() -> None:
    assert compare_short("x", answer(text="Paris."), answer(text=" paris\n")).agrees
    assert not compare_short("x", answer(text="42"), answer(text="43")).agrees
