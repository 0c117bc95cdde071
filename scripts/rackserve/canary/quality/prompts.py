"""Reference prompts and texts: what is asked of both engines, and what they are told to find likely."""

from collections import Counter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rackserve.definition.models.base import Name, Strict, refuse

# Fewer say nothing: one odd answer would decide.
FEWEST_PROMPTS, FEWEST_TEXTS = 4, 2
_SHORTEST_TEXT = 40


class Message(Strict):
    """One turn of a conversation, as clients send it."""

    role: Literal["system", "user", "assistant"] = Field(description="Who says it")
    content: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(description="What is said")


class Prompt(Strict):
    """A conversation that goes through the chat template, answered greedily (temperature 0)."""

    name: Name = Field(description="What the report calls it")
    messages: tuple[Message, ...] = Field(description="The conversation; the last turn is the user's")
    max_tokens: Annotated[int, Field(ge=1, le=1024)] = Field(default=48, description="The longest answer, in tokens")
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=4)] = Field(
        default=(), description="Texts at which the answer ends"
    )
    determinate: bool = Field(
        default=False,
        description="Every good model gives the same short answer; only such prompts are compared when the model is new",
    )

    @model_validator(mode="after")
    def _conversation(self) -> "Prompt":
        roles = [message.role for message in self.messages]
        if not roles or roles[-1] != "user" or "system" in roles[1:]:
            raise refuse(
                f"the turns are {', '.join(roles) or 'none'}",
                "an optional system first, then user and assistant in turn, the last one user",
                "write the turns as a client sends them",
            )
        return self


def _long_enough(text: str) -> str:
    if len(text) < _SHORTEST_TEXT:
        raise refuse(
            f"has {len(text)} characters",
            f"at least {_SHORTEST_TEXT}, so that its mean is one of many tokens",
            "write two or three sentences",
        )
    return text


class Text(Strict):
    """A text whose log-probability both engines state; no chat template, no generation."""

    name: Name = Field(description="What the report calls it")
    text: Annotated[str, Field(max_length=100_000), AfterValidator(_long_enough)] = Field(description="The text")


class Reference(Strict):
    """A whole set."""

    prompts: tuple[Prompt, ...] = Field(description=f"At least {FEWEST_PROMPTS} conversations")
    texts: tuple[Text, ...] = Field(description=f"At least {FEWEST_TEXTS} texts")

    @model_validator(mode="after")
    def _whole(self) -> "Reference":
        for what, fewest, entries in (
            ("prompts", FEWEST_PROMPTS, self.prompts), ("texts", FEWEST_TEXTS, self.texts)
        ):  # fmt: skip
            if len(entries) < fewest:
                raise refuse(f"{what} has {len(entries)} entries", f"at least {fewest}", f"add {what}")
            twice = [name for name, number in Counter(one.name for one in entries).items() if number > 1]
            if twice:
                raise refuse(f"{what} has two entries named {twice[0]!r}", "each name once", "rename one of them")
        return self
