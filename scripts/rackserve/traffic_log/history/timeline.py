"""One request as entries of a timeline, from what balancers and engines wrote about it. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rackserve.fleet.request_lines import JournalLine
from rackserve.traffic_log.history.stages import CONNECT, FIRST_TOKEN, QUEUE, READ, ROOM, TOKENS, WHOLE, began, stages
from rackserve.traffic_log.line import Request, parse
from rackserve.traffic_log.outcome import NO_SERVER, NONE, Outcome, outcome

# What clients may send as x-request-id; every other request gets a UUID (templates/haproxy/10-listen.cfg.j2).
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")
# Around a request's own time: for what happened to its engine, and for clocks that differ a little.
BEFORE_SECONDS, AFTER_SECONDS = 10, 10
_ENDINGS = {
    Outcome.OK: "answered",
    Outcome.ENGINE_ERROR: "the engine failed",
    Outcome.CUT: "the engine broke off",
    Outcome.TIMEOUT: "too slow: ended by a time limit",
    Outcome.UNREACHABLE: "no engine took it",
    Outcome.REFUSED: "refused",
    Outcome.CLIENT_ERROR: "refused: the client's mistake",
    Outcome.CLIENT_GONE_BEFORE: "the client left before the first token",
    Outcome.CLIENT_GONE_AFTER: "the client left in the middle of the answer",
}
_REACHED = {
    READ: "whole request read",
    ROOM: "left the waiting room",
    QUEUE: "left the queue",
    CONNECT: "engine has it",
    FIRST_TOKEN: "first token",
    TOKENS: "last token",
    WHOLE: "answer begins",
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Of what systemd says about an engine's unit; MESSAGE of journald.
UNIT_CHANGES = r"Main process exited|Failed with result|Scheduled restart job|^Started |^Stopping |^Stopped |oom-kill"


@dataclass(frozen=True)
class Entry:
    """`at`: seconds since 1970, by the clock of `node`, which wrote it."""

    at: float
    node: str
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Places:
    """Of the inventory: engine -> node, pool -> longest silence of its streams in ms."""

    node_of: Mapping[str, str]
    silence_ms: Mapping[str, float]


def requests_of(request_id: str, lines: Iterable[bytes]) -> tuple[Request, ...]:
    """Lines of exactly this id, each once (a file and a journal may both have it), the earliest first."""
    found: dict[str, Request] = {}
    for line in lines:
        record = parse(line)
        if isinstance(record, Request) and record.request_id == request_id:
            found[record.model_dump_json()] = record
    return tuple(sorted(found.values(), key=began))


def window(requests: Sequence[Request]) -> tuple[float, float]:
    """From before the first to after the last of them."""
    ends = max(began(one) + max(one.total_ms, 0) / 1000 for one in requests)
    return began(requests[0]) - BEFORE_SECONDS, ends + AFTER_SECONDS


def mentions(request_id: str) -> str:
    """A pattern (PCRE and Python) for the id as vLLM writes it: chatcmpl-ID, cmpl-ID-0. No longer id matches."""
    return rf"(?<![A-Za-z0-9._:]){re.escape(request_id)}(?![A-Za-z0-9_]|[.:][A-Za-z0-9]|-(?!\d+\b))"


def of_request(request: Request, places: Places) -> list[Entry]:
    node, start = request.balancer, began(request)
    kind = "stream" if request.stream else "plain answer"
    asked = f"{request.method} {request.path} {request.model} ({kind}, {request.bytes_in} bytes) by {request.key_name}"
    entries = [Entry(start, node, "request comes in", f"{asked}, lane {request.lane}, from {request.client}")]
    after_ms = 0
    for stage in stages(request):
        after_ms += stage.milliseconds
        waited = stage.name in (ROOM, QUEUE) and stage.milliseconds == 0
        if stage.name in _REACHED and not waited:
            detail = _detail(stage.name, request, places)
            entries.append(
                Entry(
                    start + after_ms / 1000,
                    node,
                    _REACHED[stage.name],
                    _joined(f"after {stage.milliseconds} ms", detail),
                )
            )
    entries = entries if request.read_ms >= 0 else entries[:1]
    return [*entries, _end(start, request, places)]


def _detail(stage: str, request: Request, places: Places) -> str:
    if stage == ROOM:
        return f"lane {request.lane}"
    if stage == QUEUE:
        before = max(request.queued_pool, 0) + max(request.queued_server, 0)
        return f"pool {request.pool}, {before} before it"
    if stage == CONNECT:
        node = places.node_of.get(request.server)
        tried = "" if request.retries in ("0", NONE) else f"after {request.retries.lstrip('+')} failed connects"
        if request.retries.startswith("+"):
            tried += ", on another engine at last"
        return _joined(f"{request.server}{f' on {node}' if node else ''}, track {request.track}", tried)
    return ""


def _end(start: float, request: Request, places: Places) -> Entry:
    came_to = outcome(request, places.silence_ms.get(request.pool))
    reason = "" if request.refused == NONE else request.refused
    if not reason and came_to is Outcome.REFUSED:
        reason = "queue_timeout" if request.ending == "sQ" else "by the balancer"
    words = f"{_ENDINGS[came_to]}{f': {reason}' if reason else ''}"
    parts = [f"status {request.status}", f"{max(request.total_ms, 0)} ms in all"]
    if request.tokens > 0:
        about = "about " if request.tokens_estimated else ""
        parts.append(f"{about}{request.reply_tokens} tokens for {request.prompt_tokens}")
    if request.server == NO_SERVER:
        parts.append("no engine saw it")
    if request.degraded not in (NONE, ""):
        parts.append(f"degraded: {request.degraded}")
    if request.trace_id not in (NONE, ""):
        parts.append(f"trace {request.trace_id}")
    parts.append(f"HAProxy's word for it: {request.ending}")
    return Entry(start + max(request.total_ms, 0) / 1000, request.balancer, words, _joined(*parts))


def of_journal(node: str, lines: Iterable[JournalLine]) -> list[Entry]:
    """Events of a balancer are JSON and become words; request lines are left out, they have entries of their own."""
    entries = []
    for line in lines:
        event = _event(line.text)
        if event is not None and "request_id" in event:
            continue
        unit = line.unit.removesuffix(".service")
        if event is not None:
            named = [f"{name} {value}" for name, value in event.items() if name != "event"]
            entries.append(Entry(line.at, node, str(event["event"]).replace("_", " "), _joined(*named)))
        else:
            entries.append(Entry(line.at, node, unit, shown(line.text)))
    return entries


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """By time; of the same moment in the order in which they were given."""
    return tuple(sorted(dict.fromkeys(entries), key=lambda one: one.at))


def shown(text: str) -> str:
    """On one line and without what would steer a terminal: engines colour their lines."""
    return " ".join("".join(one if one.isprintable() else " " for one in _COLOUR.sub("", text)).split())


def _event(text: str) -> dict[str, object] | None:
    """Whatever HAProxy's log puts in front of its JSON is left out."""
    start = text.find("{")
    try:
        found = json.loads(text[start:]) if start >= 0 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and ("event" in found or "request_id" in found) else None


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
