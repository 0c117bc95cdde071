"""From two engines' answers to one of four outcomes, each with a sentence that says why. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rackserve.canary.quality.answers import Answer, Failure, Refusal, Scored, Sheet
from rackserve.canary.quality.compare import Comparison, Shift, compare, compare_short, shift
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.rules import Rules

Outcome = Literal["pass", "fail", "inconclusive", "source_unreachable"]
T = TypeVar("T", Answer, Scored)
# With more of the prompts unsteady on the baseline itself, the rest is no reference any more.
_UNSTEADY_AT_MOST = 0.25
# A new model may have nothing to say to an odd prompt, but not to many.
_EMPTY_AT_MOST = 0.1


@dataclass(frozen=True)
class Verdict:
    """`comparisons`, `shifts`: everything that could be compared. `left_out`: prompts that say nothing, with why."""

    outcome: Outcome
    reason: str
    comparisons: Sequence[Comparison] = ()
    shifts: Sequence[Shift] = ()
    left_out: Mapping[str, str] | None = None


def judge(reference: Reference, baseline: Sheet, canary: Sheet, rules: Rules, again: Sheet | None = None) -> Verdict:
    """`again`: the baseline asked a second time. What it does not repeat itself is not asked of the canary."""
    for sheet in (canary, baseline, again):
        if sheet and sheet.unreachable:
            return Verdict("source_unreachable", f"{sheet.engine} could not be asked: {sheet.unreachable}.")
    if trouble := _unanswered(reference, baseline, canary):
        return trouble
    pairs = _pairs(reference.prompts, baseline.answers, canary.answers, Answer)
    texts = _pairs(reference.texts, baseline.texts, canary.texts, Scored)
    shifts = [shift(name, *both) for name, both in texts.items()]
    if rules.change == "new_model":
        return _new_model(reference, pairs, shifts, rules)
    return _same_model(pairs, shifts, rules, again)


def _unanswered(reference: Reference, baseline: Sheet, canary: Sheet) -> Verdict | None:
    """What one engine refuses or fails to do and the other does. What both refuse alike is no difference."""
    doubt = None
    for kind, entries, theirs, ours in (
        ("prompt", reference.prompts, baseline.answers, canary.answers),
        ("text", reference.texts, baseline.texts, canary.texts),
    ):
        for entry in entries:
            nothing = Failure("was not asked")
            left, right = theirs.get(entry.name, nothing), ours.get(entry.name, nothing)
            if isinstance(left, Failure):
                doubt = doubt or Verdict("inconclusive", f"The baseline failed at {kind} {entry.name}: {left}.")
            elif isinstance(right, Failure) or isinstance(left, Refusal) != isinstance(right, Refusal):
                said = right if isinstance(right, Failure | Refusal) else "answered what the baseline refuses"
                return Verdict("fail", f"The canary failed at {kind} {entry.name}: {said}.")
    return doubt


def _pairs(
    entries: Iterable[object], theirs: Mapping[str, object], ours: Mapping[str, object], kind: type[T]
) -> dict[str, tuple[T, T]]:
    """By name, in the order of the set: baseline's and canary's, where both answered."""
    found = {}
    for name in (str(getattr(entry, "name", "")) for entry in entries):
        left, right = theirs.get(name), ours.get(name)
        if isinstance(left, kind) and isinstance(right, kind):
            found[name] = (left, right)
    return found


def _same_model(
    pairs: Mapping[str, tuple[Answer, Answer]], shifts: list[Shift], rules: Rules, again: Sheet | None
) -> Verdict:
    unsteady, noise = _unsteady(pairs, rules, again)
    comparisons = [compare(name, *both, rules.tie) for name, both in pairs.items() if name not in unsteady]
    told = (comparisons, shifts, unsteady)
    if len(unsteady) > _UNSTEADY_AT_MOST * len(pairs):
        first = next(iter(unsteady.items()))
        return Verdict(
            "inconclusive",
            f"The baseline does not repeat {len(unsteady)} of {len(pairs)} of its own answers, so nothing can be asked of the "
            f"canary; {first[0]} {first[1]}.",
            *told,
        )
    if not comparisons or not shifts:
        missing = "prompt" if not comparisons else "text"
        return Verdict("inconclusive", f"No {missing} of the set could be compared.", *told)
    if noise > rules.scatter / 2:
        return Verdict(
            "inconclusive",
            f"The baseline's own log-probabilities differ by {noise:.3g} per token when it is asked twice, more than half of "
            f"the {rules.scatter:.3g} allowed to the canary: make the engine deterministic, or raise log_probability_tolerance.",
            *told,
        )
    return _alike(comparisons, shifts, unsteady, rules)


def _alike(comparisons: list[Comparison], shifts: list[Shift], unsteady: dict[str, str], rules: Rules) -> Verdict:
    told = (comparisons, shifts, unsteady)
    good, ties = sum(one.agrees for one in comparisons), sum(one.near_tie for one in comparisons)
    required = rules.agreement_percent or 0.0
    agreement = f"{good} of {len(comparisons)} greedy answers agree ({100 * good / len(comparisons):.3g} %, required {required:g} %)"
    if 100 * good < required * len(comparisons):
        worst = min((one for one in comparisons if not one.agrees), key=lambda one: one.common)
        return Verdict(
            "fail", f"Other answers than the baseline's: {agreement}; worst is {worst.name}: {worst.how}.", *told
        )
    if other := next((one for one in shifts if one.how), None):
        return Verdict("fail", f"Another tokenizer than the baseline's: text {other.name} {other.how}.", *told)
    most = max(shifts, key=lambda one: abs(one.mean))
    means = f"mean log-probability of the texts differs by up to {abs(most.mean):.3g} (text {most.name}, allowed {rules.tolerance:g})"
    if abs(most.mean) > rules.tolerance:
        direction = "less" if most.mean < 0 else "more"
        return Verdict(
            "fail", f"Other weights than the baseline's: {means}, the canary holds it {direction} likely.", *told
        )
    parts: list[Comparison | Shift] = [*shifts, *comparisons]
    scatter, where = max((_mean(one.differences), one.name) for one in parts)
    overall = max(_mean(_all(shifts)), _mean(_all(comparisons)))
    spread = f"single log-probabilities differ by {overall:.3g} on average, most in {where} ({scatter:.3g})"
    if overall > rules.scatter:
        return Verdict("fail", f"Other weights than the baseline's: {spread}, allowed {rules.scatter:g}.", *told)
    chance = f", {ties} of them until a near tie" if ties else ""
    left_out = f"; {len(unsteady)} left out, because the baseline does not repeat them itself" if unsteady else ""
    return Verdict("pass", f"Answers as the baseline: {agreement}{chance}; {means}; {spread}{left_out}.", *told)


def _unsteady(
    pairs: Mapping[str, tuple[Answer, Answer]], rules: Rules, again: Sheet | None
) -> tuple[dict[str, str], float]:
    """Prompts at which the baseline differs from itself, and by how much its log-probabilities do on average."""
    if again is None:
        return {}, 0.0
    repeated = [
        compare(name, first, second, rules.tie)
        for name, (first, _) in pairs.items()
        if isinstance(second := again.answers.get(name), Answer)
    ]
    return {one.name: one.how for one in repeated if not one.agrees}, _mean(_all(repeated))


def _new_model(
    reference: Reference, pairs: Mapping[str, tuple[Answer, Answer]], shifts: list[Shift], rules: Rules
) -> Verdict:
    """Its tokens and likelihoods may be others, so only short answers that every good model gives are compared."""
    short = [prompt.name for prompt in reference.prompts if prompt.determinate and prompt.name in pairs]
    comparisons = [compare_short(name, *pairs[name]) for name in short]
    if not pairs:
        return Verdict("inconclusive", "No prompt of the set could be compared.", (), shifts)
    empty = [name for name, (theirs, ours) in pairs.items() if theirs.text.strip() and not ours.text.strip()]
    if len(empty) > _EMPTY_AT_MOST * len(pairs):
        said = f"The canary says nothing to {len(empty)} of {len(pairs)} prompts that the baseline answers, such as {empty[0]}."
        return Verdict("fail", said, comparisons, shifts)
    good = sum(one.agrees for one in comparisons)
    agreement = f"{good} of {len(comparisons)} short answers agree"
    if rules.agreement_percent is None:
        return Verdict(
            "pass",
            f"Not judged, because the model is new and new_model_agreement_percent is not set: all {len(pairs)} prompts are "
            f"answered, {agreement}.",
            comparisons,
            shifts,
        )
    if not comparisons:
        return Verdict(
            "inconclusive", "No prompt of the set is marked determinate, so a new model cannot be judged.", (), shifts
        )
    percent = f"{agreement} ({100 * good / len(comparisons):.3g} %, required {rules.agreement_percent:g} %)"
    wrong = next((one for one in comparisons if not one.agrees), None)
    worst = f"; to {wrong.name} it {wrong.how}" if wrong else ""
    if 100 * good < rules.agreement_percent * len(comparisons):
        return Verdict("fail", f"Other answers than the baseline's: {percent}{worst}.", comparisons, shifts)
    return Verdict("pass", f"Answers as the baseline: {percent}{worst}.", comparisons, shifts)


def _all(parts: Iterable[Comparison | Shift]) -> list[float]:
    return [difference for one in parts for difference in one.differences]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
