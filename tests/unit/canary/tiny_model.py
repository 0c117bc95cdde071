"""A small deterministic language model with a chat template, as vLLM would serve it, that can be damaged in the ways that matter.

Its next token depends on the question and the two tokens before it. Batching is played by noise on logits, in the steps of a
16-bit number; with `ties` some places have two tokens that are equally likely, so that the noise decides between them.
"""

import json
import math
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from rackserve.canary.quality.prompts import Message

# Bytes, then the marks of the template, then the end.
ROLES = {"system": 256, "user": 257, "assistant": 258}
END, SIZE = 259, 260
# What may be said; few, because every test says a lot.
_WORDS = tuple(sorted(b"etaoinshrdlu ."))
# A logit of about 20 in 16 bits.
STEP = 0.125


def proper(messages: Sequence[Message]) -> list[int]:
    """The template that the weights were made for."""
    tokens: list[int] = []
    for message in messages:
        tokens += [ROLES[message.role], *message.content.encode(), END]
    return [*tokens, ROLES["assistant"]]


def without_roles(messages: Sequence[Message]) -> list[int]:
    """A wrong one: everything is one user turn."""
    return [ROLES["user"], *"\n".join(message.content for message in messages).encode(), END, ROLES["assistant"]]


@dataclass(frozen=True)
class Model:
    """`weights`: share of foreign weights mixed in. `noise`: steps of 16-bit rounding in logits. `permuted`: of the tokenizer."""

    seed: int = 1
    weights: float = 0.0
    noise: float = 0.0
    ties: bool = True
    template: Callable[[Sequence[Message]], list[int]] = proper
    permuted: bool = False
    ends: bool = True
    mute: bool = False
    decodes: dict[int, str] = field(default_factory=dict, hash=False)

    def encode(self, tokens: Sequence[int]) -> list[int]:
        return [_PERMUTATION[token] for token in tokens] if self.permuted else list(tokens)

    def decode(self, token: int) -> str:
        if token in self.decodes:
            return self.decodes[token]
        own = _PERMUTATION.index(token) if self.permuted else token
        return chr(own) if own < 256 else ""


@cache
def _logits(seed: int, weights: float, ties: bool, question: int, before: tuple[int, ...]) -> dict[int, float]:
    own, foreign = random.Random(f"{seed}{question}{before}"), random.Random(f"other{question}{before}")
    found = {}
    for token in (*_WORDS, END):
        logit, other = own.gauss(18, 2), foreign.gauss(18, 2)
        found[token] = (1 - weights) * logit + weights * other
    found[END] -= 9 if before[-1:] == (ROLES["assistant"],) else 0.5
    if ties and own.random() < 0.1:
        first, second = sorted(found, key=lambda token: -found[token])[:2]
        found[second] = found[first]
    return found


_PERMUTATION = [*random.Random(5).sample(range(256), 256), *range(256, SIZE)]
# Everything that is not generated is equally unlikely; a different number for each so that a permutation shows.
_RARE = [random.Random(token).gauss(11, 1) for token in range(SIZE)]


class Served:
    """One engine. `draw`: its batches, another in every run."""

    def __init__(self, model: Model, draw: random.Random) -> None:
        self.model, self.draw = model, draw

    def likely(self, question: int, before: tuple[int, ...]) -> list[tuple[float, int]]:
        """Log-probabilities of what may be said next, the most likely first."""
        model, gauss = self.model, self.draw.gauss
        logits = _logits(model.seed, model.weights, model.ties, question, before)
        found = [(logit + gauss(0, model.noise * STEP), token) for token, logit in logits.items()]
        total = math.log(sum(math.exp(logit) for logit, _ in found))
        return sorted(((logit - total, token) for logit, token in found), reverse=True)

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        model = self.model
        prompt = model.encode(model.template([Message(**one) for one in asked["messages"]]))
        question = zlib.crc32(str(prompt).encode())
        said, places, text, finish, stop = list(prompt), [], "", "length", None
        for _ in range(asked["max_tokens"]):
            best = self.likely(question, tuple(said[-2:]))[: asked["top_logprobs"]]
            places.append(best)
            said.append(best[0][1])
            if best[0][1] == END and model.ends:
                finish = "stop"
                break
            text += "" if model.mute else model.decode(best[0][1])
            if stop := next((one for one in asked.get("stop", []) if one in text), None):
                text, finish = text[: text.index(stop)], "stop"
                break
        content = [
            {
                "token": f"token_id:{best[0][1]}",
                "logprob": best[0][0],
                "top_logprobs": [{"token": f"token_id:{token}", "logprob": value} for value, token in best],
            }
            for best in places
        ]
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
            "stop_reason": stop,
            "logprobs": {"content": content},
        }
        return {"model": asked["model"], "choices": [choice], "prompt_token_ids": prompt}

    def completion(self, asked: dict[str, Any]) -> dict[str, Any]:
        tokens = self.model.encode(list(asked["prompt"].encode()))
        places: list[dict[str, Any] | None] = [None]
        for at in range(1, len(tokens)):
            known = {token: value for value, token in self.likely(0, tuple(tokens[max(0, at - 2) : at]))}
            value = known.get(tokens[at], _RARE[tokens[at]] - 22)
            places.append({str(tokens[at]): {"logprob": value, "rank": 1, "decoded_token": "?"}})
        return {"choices": [{"text": "", "prompt_token_ids": tokens, "prompt_logprobs": places}]}

    def transport(self) -> httpx.MockTransport:
        def reply(request: httpx.Request) -> httpx.Response:
            asked = json.loads(request.content)
            chat = request.url.path == "/v1/chat/completions"
            return httpx.Response(200, json=self.chat(asked) if chat else self.completion(asked))

        return httpx.MockTransport(reply)
