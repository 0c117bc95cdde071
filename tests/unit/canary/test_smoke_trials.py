"""What a trial says of an answer: nothing where it is good, one sentence where it is not."""

import json
from typing import Any

import pytest
from rackserve.canary.smoke import judge, questions


def body(content: str | None = "fine", finish: str | None = "stop", model: str = "small", **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"model": model, "choices": [choice], "usage": {"prompt_tokens": 900}}).encode()


def test_a_good_answer_needs_no_words() -> None:
    assert judge.chat(body(), "small") == ""
    assert judge.chat(body(finish="length"), "small") == ""
    assert judge.chat(body(content=None, reasoning="let me think"), "small") == "", "the tokens went into thinking"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (body(content=""), "the answer is empty"),
        (body(content=" \n"), "the answer is empty"),
        (body(content=None), "the answer is empty"),
        (body(finish="abort"), "the answer ended by 'abort', not by one of stop, length"),
        (body(finish=None), "the answer ended by None, not by one of stop, length"),
        (body(model="other"), "the answer comes from model 'other', not 'small'"),
        (b"<html>", "the answer has a form that is not known: '<html>'"),
        (b'{"choices": []}', "the answer has a form that is not known: "),
        (b'{"choices": 3}', "the answer has a form that is not known: "),
        (b'{"choices": [{"message": null}]}', "the answer has a form that is not known: "),
    ],
)
def test_a_bad_answer_is_named(answer: bytes, said: str) -> None:
    assert judge.chat(answer, "small").startswith(said)


def test_an_answer_ends_at_its_stop_text() -> None:
    assert judge.stopped(body("I"), "small") == ""
    assert judge.stopped(body(""), "small") == "", "it began with a stop text"
    assert judge.stopped(body("I am"), "small") == "the answer goes on past the stop text ' ': 'I am'"
    assert judge.stopped(body("I", "length"), "small").startswith("the answer ends by 'length' instead of by its stop")


def test_a_long_prompt_has_to_arrive_whole() -> None:
    assert judge.long(body(), "small", 900) == ""
    assert judge.long(body(), "small", 901) == "the engine saw 900 tokens of a prompt that has at least 901"
    assert judge.long(body(content=""), "small", 1) == "the answer is empty"


@pytest.mark.parametrize("tokens_per_character", [0.2, 0.45, 1.0])
@pytest.mark.parametrize("context", [512, 4096, 131_072])
def test_a_long_prompt_fits_the_context_and_the_balancer(context: int, tokens_per_character: float) -> None:
    asked, least = questions.long("small", context, tokens_per_character, 262_144)
    tokens = questions.characters(asked) * tokens_per_character
    assert len(json.dumps(asked)) < 262_144
    assert context * 0.05 < tokens < context * 0.8 or tokens > 8_000
    assert tokens < context * 0.8
    assert 0 < least <= tokens


def call(name: str = questions.TOOL, arguments: str = '{"city": "Oslo"}', finish: str = "tool_calls") -> bytes:
    return body(None, finish, tool_calls=[{"function": {"name": name, "arguments": arguments}}])


def test_a_tool_call_is_one_that_a_program_can_use() -> None:
    assert judge.tool_call(call(), "small") == ""
    assert judge.tool_call(body("It is warm."), "small") == "no tool was called; it said 'It is warm.'"
    assert judge.tool_call(call("other"), "small").startswith("the wrong tool was called: ")
    assert judge.tool_call(call(arguments="{city"), "small").startswith("the tool call cannot be read: ")
    assert judge.tool_call(call(arguments='{"town": "Oslo"}'), "small").startswith("the tool call cannot be read: ")
    assert judge.tool_call(call(finish="abort"), "small") == "it ended by 'abort'"


def piece(text: str = "", finish: str | None = None, model: str = "small") -> str:
    return json.dumps({"model": model, "choices": [{"delta": {"content": text}, "finish_reason": finish}]})


USAGE = json.dumps({"model": "small", "choices": [], "usage": {"prompt_tokens": 9}})
LONG = json.dumps({"model": "small", "choices": [], "usage": {"completion_tokens": 8}})
GOOD = [piece("Good "), piece("day"), piece(finish="stop"), USAGE, "[DONE]"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (GOOD, ""),
        ([], "the stream has no events"),
        (GOOD[:-1], "the stream ended without [DONE] after 4 events"),
        ([*GOOD, piece("more")], "the stream goes on after [DONE], which is event 5 of 6"),
        ([piece(), piece(finish="stop"), "[DONE]"], "the stream of 3 events has no text"),
        ([piece("Good "), piece("day"), "[DONE]"], "the stream ended by nothing, not by one of stop, length"),
        ([piece("a", "abort"), piece("b"), "[DONE]"], "the stream ended by 'abort', not by one of stop, length"),
        ([piece("a", "stop"), piece("b", "stop"), "[DONE]"], "the stream ended by 'stop', 'stop', not by one"),
        ([piece("Yes", "stop"), USAGE, "[DONE]"], ""),
        ([piece("Good day", "stop"), LONG, "[DONE]"], "8 tokens came in one piece, so they were not streamed"),
        ([piece("Good ", model="x"), "[DONE]"], "event 1 of the stream comes from model 'x', not 'small'"),
        (['{"error": {"message": "broken"}}', "[DONE]"], "event 1 of the stream is not a part of an answer: "),
        (["nonsense", "[DONE]"], "event 1 of the stream is not a part of an answer: "),
    ],
)
def test_a_stream_is_read_to_its_end(events: list[str], said: str) -> None:
    found = judge.streamed(events, "small")
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_an_answer_of_another_track_is_no_verdict() -> None:
    assert judge.track_of({"x-track": "canary"}, "canary") == ""
    assert judge.track_of({"x-track": "stable"}, "canary").startswith("the answer came from stable, not from canary")
    assert judge.track_of({}, "canary").startswith("the answer came without a track")


def test_a_refusal_is_told_with_its_status() -> None:
    assert judge.refusal(503, b'{"error": {"message": "No engine."}}') == "status 503: 'No engine.'"
    assert judge.refusal(502, b"<html> bad\n gateway") == "status 502: '<html> bad gateway'"
