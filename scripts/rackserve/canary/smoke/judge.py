"""What is wrong with an answer, in one sentence; empty where nothing is. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rackserve.canary.smoke.questions import STOPS, TOOL, TOOL_ARGUMENT

_ENDS = ("stop", "length")
# A short answer may be one token, and two may come together.
_SURELY_SEVERAL = 8


def track_of(headers: Mapping[str, str], wanted: str) -> str:
    """Why an answer may not be held against the track: it came from elsewhere."""
    said = headers.get("x-track", "")
    if said == wanted:
        return ""
    came = f"from {said}" if said else "without a track"
    return f"the answer came {came}, not from {wanted}: the key has to be the rack's own (lane internal)"


def chat(body: bytes, model: str) -> str:
    choice, trouble = _choice(body, model)
    return trouble or _text(choice["message"]) or _end(choice)


def stopped(body: bytes, model: str) -> str:
    """An answer may be empty here: it can begin with what ends it."""
    choice, trouble = _choice(body, model)
    if trouble:
        return trouble
    text = choice["message"].get("content") or ""
    if beyond := [stop for stop in STOPS if stop in text]:
        return f"the answer goes on past the stop text {beyond[0]!r}: {_short(text)}"
    if choice.get("finish_reason") != "stop":
        return f"the answer ends by {choice.get('finish_reason')!r} instead of by its stop text: {_short(text)}"
    return ""


def long(body: bytes, model: str, tokens_at_least: int) -> str:
    if trouble := chat(body, model):
        return trouble
    seen = prompt_tokens(body)
    if seen < tokens_at_least:
        return f"the engine saw {seen} tokens of a prompt that has at least {tokens_at_least}"
    return ""


def tool_call(body: bytes, model: str) -> str:
    choice, trouble = _choice(body, model)
    if trouble:
        return trouble
    calls = choice["message"].get("tool_calls") or []
    if not calls:
        return f"no tool was called; it said {_short(choice['message'].get('content') or '')}"
    try:
        function = calls[0]["function"]
        name, arguments = function["name"], json.loads(function["arguments"])
        given = arguments[TOOL_ARGUMENT]
    except (KeyError, TypeError, ValueError):
        return f"the tool call cannot be read: {_short(json.dumps(calls[0]))}"
    if name != TOOL or not isinstance(given, str):
        return f"the wrong tool was called: {_short(json.dumps(calls[0]))}"
    if choice.get("finish_reason") not in ("tool_calls", *_ENDS):
        return f"it ended by {choice.get('finish_reason')!r}"
    return ""


def streamed(events: Sequence[str], model: str) -> str:
    """`events`: the data of each, in order. That the connection broke is told elsewhere."""
    if not events:
        return "the stream has no events"
    text, finish, pieces, tokens = "", [], 0, 0
    for number, event in enumerate(events):
        if event == "[DONE]":
            if number != len(events) - 1:
                return f"the stream goes on after [DONE], which is event {number + 1} of {len(events)}"
            break
        data = _object(event)
        if data is None or "choices" not in data:
            return f"event {number + 1} of the stream is not a part of an answer: {_short(event)}"
        if data.get("model") != model:
            return f"event {number + 1} of the stream comes from model {data.get('model')!r}, not {model!r}"
        tokens = max(tokens, _tokens(data, "completion_tokens"))
        for choice in data["choices"] or []:
            delta = choice.get("delta") or {}
            said = (delta.get("content") or "") + (delta.get("reasoning") or "")
            pieces += bool(said)
            text += said
            finish += [choice["finish_reason"]] if choice.get("finish_reason") else []
    else:
        return f"the stream ended without [DONE] after {len(events)} events"
    if not text.strip():
        return f"the stream of {len(events)} events has no text"
    if len(finish) != 1 or finish[0] not in _ENDS:
        return f"the stream ended by {', '.join(map(repr, finish)) or 'nothing'}, not by one of {', '.join(_ENDS)}"
    if pieces == 1 and tokens >= _SURELY_SEVERAL:
        return f"{tokens} tokens came in one piece, so they were not streamed"
    return ""


def prompt_tokens(body: bytes) -> int:
    """0 where the engine does not say."""
    return _tokens(_object(body) or {}, "prompt_tokens")


def refusal(status: int, body: bytes) -> str:
    error = (_object(body) or {}).get("error")
    said = error.get("message") if isinstance(error, dict) else None
    return f"status {status}: {_short(said or body.decode(errors='replace'))}"


def _tokens(data: Mapping[str, Any], name: str) -> int:
    usage = data.get("usage")
    said = usage.get(name) if isinstance(usage, dict) else None
    return said if isinstance(said, int) else 0


def _choice(body: bytes, model: str) -> tuple[dict[str, Any], str]:
    data = _object(body) or {}
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return {}, f"the answer has a form that is not known: {_short(body.decode(errors='replace'))}"
    if data.get("model") != model:
        return {}, f"the answer comes from model {data.get('model')!r}, not {model!r}"
    return choice, ""


def _text(message: Mapping[str, Any]) -> str:
    text = (message.get("content") or "") + (message.get("reasoning") or "")
    return "" if text.strip() else "the answer is empty"


def _end(choice: Mapping[str, Any]) -> str:
    if choice.get("finish_reason") in _ENDS:
        return ""
    return f"the answer ended by {choice.get('finish_reason')!r}, not by one of {', '.join(_ENDS)}"


def _object(text: bytes | str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _short(text: str, longest: int = 120) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= longest else f"{text[:longest]}...")
