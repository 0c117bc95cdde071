"""The asker of the reference prompts: what it sends, how it bounds itself, what it makes of answers that are none."""

import asyncio
import json
import random
from typing import Any

import httpx
import pytest
from rackserve.canary.quality import replies
from rackserve.canary.quality.answers import Failure, Refusal, Sheet
from rackserve.canary.quality.ask import Engine, Pace, ask
from rackserve.canary.quality.prompts import Prompt

from .sheets import sheet, shipped
from .tiny_model import Model, Served

ENGINE = Engine("small-gpu1", "http://engine", "secret-key", "small")


def asked(transport: httpx.AsyncBaseTransport, **pace: Any) -> Sheet:
    return asyncio.run(ask(ENGINE, shipped(), "salt", Pace(**pace), transport))


def test_the_asker_reads_what_the_engine_says() -> None:
    told: list[tuple[int, int]] = []
    served = Served(Model(), random.Random(1))
    found = asyncio.run(
        ask(ENGINE, shipped(), "salt", Pace(at_once=3), served.transport(), lambda done, of: told.append((done, of)))
    )
    assert found == sheet(Model(), 1)
    assert told[-1] == (34, 34)


def test_questions_are_greedy_and_kept_out_of_the_prefix_cache() -> None:
    seen: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    asked(httpx.MockTransport(reply))
    assert {one.headers["authorization"] for one in seen} == {"Bearer secret-key"}
    bodies = [json.loads(one.content) for one in seen]
    assert {(one["temperature"], one["cache_salt"], one["model"]) for one in bodies} == {(0, "salt", "small")}
    assert len(bodies) == len(shipped().prompts) + len(shipped().texts), "nothing is asked twice"


def test_no_more_are_asked_at_once_than_allowed() -> None:
    now, most = 0, 0

    async def reply(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return httpx.Response(500)

    asked(httpx.MockTransport(reply), at_once=3)
    assert most == 3


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (httpx.ConnectError("connection refused"), "http://engine: connection refused"),
        (httpx.ConnectTimeout(""), "Timeout"),
    ],
)
def test_an_engine_without_a_way_to_it_is_unreachable(raised: Exception, said: str) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        raise raised

    found = asked(httpx.MockTransport(reply))
    assert said in found.unreachable
    assert found.answers == {}


def test_a_key_that_is_refused_is_not_held_against_the_release() -> None:
    found = asked(httpx.MockTransport(lambda request: httpx.Response(401)))
    assert "refuses the key" in found.unreachable


def test_an_engine_that_dies_while_it_is_asked_has_failed() -> None:
    calls = 0

    def reply(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise httpx.ConnectError("connection refused") if calls > 6 else httpx.RemoteProtocolError("gone")
        return httpx.Response(500, json={"error": {"message": "made up"}})

    found = asked(httpx.MockTransport(reply), at_once=1)
    assert found.unreachable == ""
    said = list(found.answers.values())
    assert said[0] == Failure("status 500: made up")
    assert said[5] == Failure("the connection broke: gone")
    assert said[6] == Failure("the engine is gone: connection refused")


def test_an_engine_that_hangs_has_failed_within_the_deadlines() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        return httpx.Response(500)

    one = asked(httpx.MockTransport(never), at_once=99, seconds=0.05)
    assert set(one.answers.values()) == {Failure("no answer within 0.05 s")}
    whole = asked(httpx.MockTransport(never), at_once=1, seconds=9, total_seconds=0.05)
    assert set(whole.texts.values()) == {Failure("not all answers within 0.05 s")}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "form that is not known"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}', "no log-probabilities"),
        (b'{"choices": [{"message": 1, "finish_reason": "stop"}]}', "choices.0.message: "),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failure(body: bytes, said: str) -> None:
    found = replies.answer_of(200, body)
    assert isinstance(found, Failure)
    assert said in found.reason


def test_a_text_whose_numbers_do_not_fit_is_a_failure() -> None:
    body = b'{"choices": [{"prompt_token_ids": [1, 2], "prompt_logprobs": [null, {"3": {"logprob": -1}}]}]}'
    assert replies.scored_of(200, body) == Failure("the answer has no log-probability of token 2")
    body = b'{"choices": [{"prompt_token_ids": [1], "prompt_logprobs": [null]}]}'
    assert replies.scored_of(200, body) == Failure("the text has 1 tokens and 1 log-probabilities")
    assert replies.scored_of(400, b'{"error": {"message": "too long"}}') == Refusal(400, "too long")
    assert isinstance(replies.scored_of(429, b""), Failure), "no room is no property of the prompt"


def test_what_the_prompt_asks_for_travels_along() -> None:
    prompt = Prompt(name="x", messages=({"role": "user", "content": "hi"},), stop=("three",), max_tokens=7)  # type: ignore[arg-type]
    body = replies.question_of_prompt(prompt, "small", "salt")
    assert (body["stop"], body["max_tokens"], body["messages"]) == (["three"], 7, [{"role": "user", "content": "hi"}])
    assert "stop" not in replies.question_of_prompt(prompt.model_copy(update={"stop": ()}), "small", "salt")
