"""vLLM's answers (0.31 and 0.32, OpenAI's form with its extensions) as our records. The only file that knows their form."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.quality.answers import Answer, Failure, Refusal, Scored, Token
from rackserve.canary.quality.prompts import Prompt, Text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
# Of how many tokens the engine states the log-probability at each place; vLLM's own limit is 20.
_LIKELY = 8


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Likely(_Reply):
    token: str
    logprob: float


class _Place(_Likely):
    top_logprobs: tuple[_Likely, ...] = ()


class _Places(_Reply):
    content: tuple[_Place, ...] | None = None


class _Message(_Reply):
    content: str | None = None
    reasoning: str | None = None


class _Choice(_Reply):
    message: _Message
    finish_reason: str | None
    stop_reason: int | str | None = None
    logprobs: _Places | None = None


class _Chat(_Reply):
    choices: tuple[_Choice, ...]
    prompt_token_ids: tuple[int, ...] | None = None


class _Rank(_Reply):
    logprob: float


class _Completion(_Reply):
    prompt_token_ids: tuple[int, ...]
    prompt_logprobs: tuple[dict[int, _Rank] | None, ...]


class _Completions(_Reply):
    choices: tuple[_Completion, ...]


def question_of_prompt(prompt: Prompt, model: str, salt: str) -> dict[str, Any]:
    """Greedy, with log-probabilities and token numbers. `salt`: keeps answers out of other runs' prefix cache, because a
    cached prefix is added up in another order and moves log-probabilities by a few hundredths."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [message.model_dump() for message in prompt.messages],
        "max_tokens": prompt.max_tokens,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": _LIKELY,
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
        "cache_salt": salt,
    }
    return asked | {"stop": list(prompt.stop)} if prompt.stop else asked


def question_of_text(text: Text, model: str, salt: str) -> dict[str, Any]:
    """One token is generated because none is not allowed. vLLM reads no cached prefix for log-probabilities of a prompt."""
    return {
        "model": model,
        "prompt": text.text,
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
        "return_token_ids": True,
        "cache_salt": salt,
    }


def answer_of(status: int, body: bytes) -> Answer | Refusal | Failure:
    if trouble := _trouble(status, body):
        return trouble
    try:
        reply = _Chat.model_validate_json(body)
    except ValidationError as error:
        return _unknown(error)
    if not reply.choices:
        return Failure("the answer has no choices")
    choice = reply.choices[0]
    places = choice.logprobs.content if choice.logprobs else None
    if places is None:
        return Failure("the answer has no log-probabilities")
    tokens = tuple(
        Token(one.token, one.logprob, {each.token: each.logprob for each in one.top_logprobs}) for one in places
    )
    stopped_by = choice.stop_reason if isinstance(choice.stop_reason, str) else ""
    text = (choice.message.reasoning or "") + (choice.message.content or "")
    return Answer(text, tokens, choice.finish_reason or "", stopped_by, reply.prompt_token_ids or ())


def scored_of(status: int, body: bytes) -> Scored | Refusal | Failure:
    if trouble := _trouble(status, body):
        return trouble
    try:
        reply = _Completions.model_validate_json(body)
    except ValidationError as error:
        return _unknown(error)
    if not reply.choices:
        return Failure("the answer has no choices")
    tokens, places = reply.choices[0].prompt_token_ids, reply.choices[0].prompt_logprobs
    if len(tokens) != len(places) or len(tokens) < 2:
        return Failure(f"the text has {len(tokens)} tokens and {len(places)} log-probabilities")
    # Nothing stands before the first token, so it has none.
    pairs = list(zip(tokens, places, strict=True))[1:]
    if missing := [token for token, place in pairs if not place or token not in place]:
        return Failure(f"the answer has no log-probability of token {missing[0]}")
    return Scored(tokens, tuple(place[token].logprob for token, place in pairs if place))


def _trouble(status: int, body: bytes) -> Refusal | Failure | None:
    if status == 200:
        return None
    said = _message(body)
    return Refusal(status, said) if 400 <= status < 500 and status != 429 else Failure(f"status {status}: {said}")


def _message(body: bytes) -> str:
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:200] or "nothing"


def _unknown(error: ValidationError) -> Failure:
    first = error.errors(include_url=False, include_input=False)[0]
    return Failure(f"the answer has a form that is not known: {'.'.join(map(str, first['loc']))}: {first['msg']}")
