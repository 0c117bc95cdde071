"""What an engine says to the reference prompts, without the way over HTTP."""

import dataclasses
import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from rackserve.canary.quality import replies
from rackserve.canary.quality.answers import Answer, Scored, Sheet, Token
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.read import read

from .tiny_model import Model, Served


@cache
def shipped() -> Reference:
    """The shipped set, cut short: what matters is there after few tokens, and hundreds of sheets are written."""
    whole = read()
    prompts = tuple(one.model_copy(update={"max_tokens": min(one.max_tokens, 16)}) for one in whole.prompts)
    return Reference(
        prompts=prompts, texts=tuple(one.model_copy(update={"text": one.text[:60]}) for one in whole.texts)
    )


def sheet(model: Model, run: int = 0, engine: str = "small-gpu1", **changes: Any) -> Sheet:
    """What this engine says, without the way over HTTP."""
    served, reference = Served(model, random.Random(run)), shipped()
    answers = {
        one.name: read_chat(served.chat(replies.question_of_prompt(one, "small", "salt"))) for one in reference.prompts
    }
    texts = {
        one.name: read_text(served.completion(replies.question_of_text(one, "small", "salt")))
        for one in reference.texts
    }
    return dataclasses.replace(Sheet(engine, answers, texts), **changes)


def read_chat(reply: Mapping[str, Any]) -> Answer:
    (choice,) = reply["choices"]
    tokens = tuple(
        Token(one["token"], one["logprob"], {each["token"]: each["logprob"] for each in one["top_logprobs"]})
        for one in choice["logprobs"]["content"]
    )
    return Answer(
        choice["message"]["content"],
        tokens,
        choice["finish_reason"],
        choice["stop_reason"] or "",
        tuple(reply["prompt_token_ids"]),
    )


def read_text(reply: Mapping[str, Any]) -> Scored:
    (choice,) = reply["choices"]
    values = [next(iter(place.values()))["logprob"] for place in choice["prompt_logprobs"][1:]]
    return Scored(tuple(choice["prompt_token_ids"]), tuple(values))
