"""Two engines' answers to one prompt, and their opinions of one text, side by side. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rackserve.canary.quality.answers import Answer, Scored

# Less likely than one in three million is ruled out. Such logits are large and negative, and 16 bits hold large numbers
# coarsely: rounding alone moves them by a half, and that says nothing about the model.
_RULED_OUT = -15.0


@dataclass(frozen=True)
class Comparison:
    """One greedy answer. `common`: tokens before the first parting. `how`: in words, for people.

    `differences`: of the log-probability of each common token, absolute.
    """

    name: str
    agrees: bool
    near_tie: bool
    common: int
    how: str
    differences: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shift:
    """One reference text: canary minus baseline, mean per token, and the single differences, absolute."""

    name: str
    mean: float
    differences: tuple[float, ...]
    how: str = ""


def compare(name: str, baseline: Answer, canary: Answer, tie: float) -> Comparison:
    """For an unchanged model: token by token. `tie`: up to which gap a parting is chance (see Rules.tie).

    Greedy answers of one release may part late, where two tokens are equally likely and rounding decides. What counts is
    therefore how sure both engines were when they parted, not how much of the rest is the same.
    """
    if baseline.prompt and canary.prompt and baseline.prompt != canary.prompt:
        at = _parting(baseline.prompt, canary.prompt)
        lengths = f"{len(canary.prompt)} instead of {len(baseline.prompt)}"
        return Comparison(
            name, False, False, 0, f"its question becomes other tokens ({lengths}, from place {at + 1} on)"
        )
    common = _parting([token.name for token in baseline.tokens], [token.name for token in canary.tokens])
    differences = tuple(
        abs(ours.log_probability - theirs.log_probability)
        for ours, theirs in zip(canary.tokens[:common], baseline.tokens[:common], strict=True)
    )
    lengths_differ = len(baseline.tokens) != len(canary.tokens)
    if common < min(len(baseline.tokens), len(canary.tokens)):
        gap = _gap(baseline, canary, common)
        near = gap <= tie
        sure = "a difference between tokens that both hold likely" if near else "no near tie"
        size = f"{gap:.2g}" if math.isfinite(gap) else "unknown, more than all tokens named"
        return Comparison(name, near, near, common, f"parts after {common} tokens, gap {size}: {sure}", differences)
    if lengths_differ or (baseline.finish, baseline.stopped_by) != (canary.finish, canary.stopped_by):
        how = f"ends by {_end(canary)} after {len(canary.tokens)} tokens, not by {_end(baseline)} after {len(baseline.tokens)}"
        return Comparison(name, False, False, common, how, differences)
    if baseline.text != canary.text:
        return Comparison(name, False, False, common, "the same tokens become another text", differences)
    return Comparison(name, True, False, common, "the same", differences)


def compare_short(name: str, baseline: Answer, canary: Answer) -> Comparison:
    """For a new model, whose tokens may be others: the words of a short answer."""
    if _words(baseline.text) == _words(canary.text):
        return Comparison(name, True, False, len(canary.tokens), "the same")
    how = f"says {_quoted(canary.text)} instead of {_quoted(baseline.text)}"
    return Comparison(name, False, False, 0, how)


def shift(name: str, baseline: Scored, canary: Scored) -> Shift:
    """Where the text became other tokens, single ones cannot be compared; the mean is per token of the baseline."""
    theirs = [max(value, _RULED_OUT) for value in baseline.log_probabilities]
    ours = [max(value, _RULED_OUT) for value in canary.log_probabilities]
    if baseline.tokens != canary.tokens:
        mean = (sum(ours) - sum(theirs)) / len(theirs)
        at = _parting(baseline.tokens, canary.tokens)
        how = f"becomes other tokens ({len(canary.tokens)} instead of {len(baseline.tokens)}, from place {at + 1} on)"
        return Shift(name, mean, (), how)
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    return Shift(name, sum(differences) / len(differences), tuple(map(abs, differences)))


def _parting(one: Sequence[object], other: Sequence[object]) -> int:
    """How many are the same from the beginning on."""
    nothing = object()
    pairs = enumerate(zip_longest(one, other, fillvalue=nothing))
    return next((at for at, (left, right) in pairs if left != right), len(one))


def _gap(baseline: Answer, canary: Answer, at: int) -> float:
    """By how much each engine prefers its own token to the other's, added up; infinite where one does not even name it."""
    ours, theirs = canary.tokens[at], baseline.tokens[at]
    if ours.name not in theirs.likely or theirs.name not in ours.likely:
        return math.inf
    return (theirs.log_probability - theirs.likely[ours.name]) + (ours.log_probability - ours.likely[theirs.name])


def _end(answer: Answer) -> str:
    return f"{answer.finish} at {_quoted(answer.stopped_by)}" if answer.stopped_by else answer.finish


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _quoted(text: str, longest: int = 40) -> str:
    text = " ".join(text.split())
    return f'"{text[:longest]}..."' if len(text) > longest else f'"{text}"'
