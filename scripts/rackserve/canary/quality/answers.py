"""What an engine answered to the reference set, as plain records. Log-probabilities are natural logarithms."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Token:
    """One token of an answer. `likely`: the most likely tokens at its place, itself among them."""

    name: str
    log_probability: float
    likely: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """`prompt`: the numbers of the tokens that the conversation became; empty where the engine does not say.

    `stopped_by`: the stop text that ended it, if one did.
    """

    text: str
    tokens: tuple[Token, ...]
    finish: str
    stopped_by: str = ""
    prompt: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scored:
    """A reference text. `log_probabilities`: of every token after the first, given those before it."""

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Refusal:
    """The engine understood and refused (a status from 400 to 499): a template without a system turn does so."""

    status: int
    message: str

    def __str__(self) -> str:
        return f"refused with {self.status}: {self.message}"


@dataclass(frozen=True)
class Failure:
    """No answer: an error of the engine, a broken connection, a deadline, an answer of a form that nobody knows."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Sheet:
    """Everything that one engine said, by the name of the prompt or text. `unreachable`: why nobody could be asked."""

    engine: str
    answers: Mapping[str, Answer | Refusal | Failure] = field(default_factory=dict)
    texts: Mapping[str, Scored | Refusal | Failure] = field(default_factory=dict)
    unreachable: str = ""
