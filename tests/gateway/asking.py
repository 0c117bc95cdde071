"""What tests send and how they read it."""

import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
# Making one costs 30 ms, and httpx makes one per client, also for plain HTTP.
CONTEXT = ssl.create_default_context()


def chat(model: str = "duo", stream: bool = False, content: str = "hi", **stub: Any) -> dict[str, Any]:
    """A chat request; keyword arguments program the stub engine (see stub.py)."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}], "stub": stub}
    return body | {"stream": True} if stream else body


@dataclass
class Stream:
    """A stream as a client saw it: (seconds since sending, data) per event, and whether it ended as it should."""

    status: int
    headers: httpx.Headers
    events: list[tuple[float, str]]
    complete: bool

    @property
    def tokens(self) -> list[str]:
        data = [json.loads(text) for _, text in self.events if text != "[DONE]"]
        return [event["choices"][0]["delta"]["content"] for event in data if event["choices"]]


def stream(client: httpx.Client, body: dict[str, Any], **arguments: Any) -> Stream:
    begin = time.monotonic()
    events: list[tuple[float, str]] = []
    with client.stream("POST", CHAT, json=body, **arguments) as answer:
        try:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append((time.monotonic() - begin, line.removeprefix("data: ")))
        except httpx.RemoteProtocolError:
            return Stream(answer.status_code, answer.headers, events, complete=False)
    ended = bool(events) and events[-1][1] == "[DONE]"
    return Stream(answer.status_code, answer.headers, events, complete=ended)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object of an answer in OpenAI's form; fails when the form is another one."""
    assert answer.headers["content-type"] == "application/json", answer.headers
    body = answer.json()
    assert list(body) == ["error"], body
    assert list(body["error"]) == ["message", "type", "param", "code"], body
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error
