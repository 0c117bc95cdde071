"""Caps on one request: at the cap, one above, and every known way of hiding what is asked for."""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, limit, plan
from gateway.stub import Stub

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"


@pytest.fixture
def capped(balancer: Balancer, stub_address: str) -> Iterator[Callable[..., None]]:
    """Reloads the balancer with caps for the tenant demo; put back afterwards."""

    def with_caps(**caps: Any) -> None:
        balancer.reload(candidate(limit(plan(stub_address, FIRST_PORT), "demo", None, **caps)))
        eventually(balancer.all_up, "every engine in service")

    yield with_caps
    balancer.reload(candidate(plan(stub_address, FIRST_PORT)))
    eventually(balancer.all_up, "every engine in service")


SPELLINGS = [
    (CHAT, "max_tokens"),
    (CHAT, "max_completion_tokens"),
    (COMPLETIONS, "max_tokens"),
    (RESPONSES, "max_output_tokens"),
]


def body_for(path: str, **more: Any) -> dict[str, Any]:
    content: dict[str, Any] = {CHAT: chat(), COMPLETIONS: {"prompt": "hi"}, RESPONSES: {"input": "hi"}}[path]
    return {"model": "duo"} | content | more


def test_every_spelling_of_max_tokens_is_capped(capped: Callable[..., None], client: httpx.Client, stub: Stub) -> None:
    capped(max_tokens=100)
    for path, name in SPELLINGS:
        assert client.post(path, json=body_for(path, **{name: 99})).status_code == 200
        assert client.post(path, json=body_for(path, **{name: 100})).status_code == 200
        seen = len(stub.seen())
        answer = client.post(path, json=body_for(path, **{name: 101}))
        assert answer.status_code == 400
        error = error_of(answer)
        assert (error["code"], error["param"]) == ("max_tokens_exceeded", name)
        assert error["message"] == f"{name} is 101; this key may ask for at most 100 (max_tokens). Ask for fewer."
        assert len(stub.seen()) == seen


def test_a_clamped_request_is_lowered_and_one_without_gets_the_default(
    capped: Callable[..., None], client: httpx.Client, stub: Stub
) -> None:
    capped(max_tokens=100, default_max_tokens=50, over_cap="clamp")
    for path, name in SPELLINGS:
        for said, passed in ((99, 99), (100, 100), (101, 100), (10**9, 100), ("101", 100), (1e5, 100)):
            assert client.post(path, json=body_for(path, **{name: said})).status_code == 200
            assert int(stub.seen()[-1].body[name]) == passed, (path, name, said)
    for path, name in SPELLINGS:
        for missing in ({}, {name: None}):
            answer = client.post(path, json=body_for(path, **missing))
            assert answer.status_code == 200
            got = stub.seen()[-1].body
            assert 50 in [got.get(other) for _, other in SPELLINGS], (path, missing, got)


def test_a_rewritten_body_is_whole_whatever_its_size_and_framing(
    capped: Callable[..., None], balancer: Balancer, client: httpx.Client, stub: Stub
) -> None:
    capped(default_max_tokens=7)
    for size in (1, 20_000, 200_000):
        text = "ü" * (size // 2) + 'quote " and \\ slash'
        assert client.post(CHAT, json=chat(content=text)).status_code == 200
        assert stub.seen()[-1].body["messages"][0]["content"] == text
        assert stub.seen()[-1].body["max_tokens"] == 7
    connection = http.client.HTTPConnection(*balancer.api, timeout=10)
    headers = {"Authorization": f"Bearer {KEYS['demo']}", "Transfer-Encoding": "chunked"}
    text = json.dumps(chat()).encode()
    connection.request("POST", CHAT, body=iter([text[:9], text[9:]]), headers=headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert stub.seen()[-1].body["max_tokens"] == 7


DEEP = "[" * 30 + "]" * 30
TRICKS = {
    "the last of two wins at the engine": '"max_tokens": 5, "max_tokens": 5000',
    "the first of two": '"max_tokens": 5000, "max_tokens": 5',
    "an escaped name": r'"max\u005ftokens": 5000',
    "an escaped name, capital digits": r'"\u006Dax_tokens": 5000',
    "both": r'"max_tokens": 5, "max\u005Ftokens": 5000',
    "text": '"max_tokens": "5000"',
    "an exponent": '"max_tokens": 5e3',
    "a fraction of zero": '"max_tokens": 5000.0',
    "behind deep nesting": f'"x": {DEEP}, "max_tokens": 5000',
    "many digits": '"max_tokens": 18446744073709551621',
    "the other spelling": '"max_tokens": 5, "max_completion_tokens": 5000',
    "white space": '"max_tokens"\n\t : \r\n 5000',
    "negative": '"max_tokens": -5',
    "nothing": '"max_tokens": 0',
    "half": '"max_tokens": 5.5',
    "a list": '"max_tokens": [5000]',
    "an object": '"max_tokens": {"a": 5000}',
    "two n": '"n": 1, "n": 50',
    "n as text": '"n": "50"',
    "n with an exponent": '"n": 5e1',
    "best_of": '"n": 1, "best_of": 50',
    "n behind deep nesting": f'"x": {DEEP}, "n": 50',
}


def test_no_trick_gets_past_a_cap(capped: Callable[..., None], client: httpx.Client, stub: Stub) -> None:
    capped(max_tokens=100, parallel_generations=2)
    for name, members in TRICKS.items():
        text = '{"model": "duo", "messages": [{"role": "user", "content": "hi"}], ' + members + "}"
        answer = client.post(CHAT, content=text)
        assert answer.status_code == 400, (name, answer.text)
        assert error_of(answer)["code"], name
        # The same far behind and far before a long prompt: a search that gives up on long bodies would let it pass.
        long = '"messages": [{"role": "user", "content": "' + "x y" * 60_000 + '"}]'
        for text in (
            '{"model": "duo", ' + long + ", " + members + "}",
            '{"model": "duo", ' + members + ", " + long + "}",
        ):
            assert client.post(CHAT, content=text).status_code == 400, (name, "long")
    for text in ("x" * 200_000, r"\"" * 100_000):
        far = '"max_tokens": 5, "messages": [{"role": "user", "content": "' + text + '"}], "max_tokens": 5000}'
        assert client.post(CHAT, content='{"model": "duo", ' + far).status_code == 400
    assert not stub.seen()


def test_honest_bodies_that_look_odd_pass(capped: Callable[..., None], client: httpx.Client) -> None:
    capped(max_tokens=100, parallel_generations=2, messages=3)
    honest = [
        chat(content='"max_tokens": 5000, "max_tokens": 6000 \\u006d "n": 9'),
        chat() | {"max_tokens": None},
        chat() | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"n": 1, "model": "x"}}}]},
        chat(content="ünï \u0001 code"),
    ]
    for body in honest:
        assert client.post(CHAT, json=body).status_code == 200, body
        assert client.post(CHAT, content=json.dumps(body, ensure_ascii=False).encode()).status_code == 200, body


def test_messages_prompts_and_sizes_are_capped(capped: Callable[..., None], client: httpx.Client) -> None:
    capped(messages=3, parallel_generations=4, prompt_bytes=2000, prompt_tokens=400)

    def code(path: str, body: dict[str, Any]) -> str:
        answer = client.post(path, json=body)
        return "" if answer.status_code == 200 else str(error_of(answer)["code"])

    message = {"role": "user", "content": "hi"}
    for count, expected in ((2, ""), (3, ""), (4, "messages_exceeded"), (40, "messages_exceeded")):
        assert code(CHAT, {"model": "duo", "messages": [message] * count}) == expected
        assert code(RESPONSES, {"model": "duo", "input": [message] * count}) == expected
    for count, expected in ((3, ""), (4, ""), (5, "parallel_generations_exceeded")):
        assert code(CHAT, chat() | {"n": count}) == expected
        assert code(COMPLETIONS, {"model": "duo", "prompt": ["hi"] * count}) == expected
    assert code(COMPLETIONS, {"model": "duo", "prompt": ["a", "b"], "n": 3}) == "parallel_generations_exceeded"
    assert code(COMPLETIONS, {"model": "duo", "prompt": [1, 2, 3, 4, 5, 6]}) == ""
    room = 1600 - len(json.dumps(chat(content=""), separators=(",", ":")))
    for extra, expected in ((-1, ""), (3, ""), (4, "prompt_tokens_exceeded"), (401, "prompt_bytes_exceeded")):
        text = json.dumps(chat(content="x" * (room + extra)), separators=(",", ":"))
        answer = client.post(CHAT, content=text)
        assert ("" if answer.status_code == 200 else error_of(answer)["code"]) == expected, extra


def test_the_bytes_of_a_prompt_are_capped_to_the_byte(capped: Callable[..., None], client: httpx.Client) -> None:
    capped(prompt_bytes=2000)
    room = 2000 - len(json.dumps(chat(content="")).encode())
    for extra, expected in ((-1, 200), (0, 200), (1, 400)):
        answer = client.post(CHAT, content=json.dumps(chat(content="x" * (room + extra))))
        assert answer.status_code == expected, (extra, answer.text)


@pytest.mark.parametrize("address", ["http://10.0.0.1/x", "HTTPS://a/b", "file:///etc/passwd", "\\u0068ttp://a"])
def test_addresses_of_files_are_refused_and_content_passes(client: httpx.Client, stub: Stub, address: str) -> None:
    part = '{"type": "image_url", "image_url": {"url": "%s"}}'
    text = '{"model": "duo", "messages": [{"role": "user", "content": [' + part + "]}]}"
    answer = client.post(CHAT, content=text % address)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "file_urls_not_allowed")
    assert not stub.seen()
    assert client.post(CHAT, content=text % "data:image/png;base64,AAAA").status_code == 200


def test_the_official_client_raises_bad_request_once(capped: Callable[..., None], balancer: Balancer) -> None:
    capped(max_tokens=10)
    message: Any = [{"role": "user", "content": "hi"}]
    with (
        openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["demo"], max_retries=3, timeout=15) as client,
        pytest.raises(openai.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="duo", messages=message, max_tokens=11)
    assert (caught.value.code, caught.value.param) == ("max_tokens_exceeded", "max_tokens")
