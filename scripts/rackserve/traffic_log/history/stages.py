"""The stages of a request from its line, in the order in which it meets them. Pure.

HAProxy counts the waiting room as reading; times of tokens count from the whole request on (90-log.cfg.j2, docs/traffic.md).
"""

from dataclasses import dataclass

from rackserve.traffic_log.line import Request
from rackserve.traffic_log.outcome import active_ms

READ, ROOM, QUEUE, CONNECT = "read", "waiting room", "queue", "connect"
FIRST_TOKEN, TOKENS, WHOLE, END = "first token", "tokens", "whole answer", "end"
STAGES = (READ, ROOM, QUEUE, CONNECT, FIRST_TOKEN, TOKENS, WHOLE, END)
MEANINGS = {
    READ: "the client sends its request",
    ROOM: "in front of the queue, for a place of its lane",
    QUEUE: "for a slot of an engine",
    CONNECT: "to the engine",
    FIRST_TOKEN: "streams: from the engine's having it to its first token (engine queue and prefill)",
    TOKENS: "streams: from the first token to the last (decode, at the pace the client reads)",
    WHOLE: "plain answers: from the engine's having it to the answer's first byte (engine queue, prefill, decode)",
    END: "until the last byte has left",
}


@dataclass(frozen=True)
class Stage:
    """`milliseconds` after the stage before it."""

    name: str
    milliseconds: int


def began(request: Request) -> float:
    """When its first byte came: seconds since 1970. HAProxy's own moment is the end of what was on the connection before."""
    return request.time + max(request.idle_ms, 0) / 1000


def stages(request: Request) -> tuple[Stage, ...]:
    """Those that it reached, the last one as far as it came. They add up to the whole time."""
    if request.read_ms < 0:
        return (Stage(READ, request.total_ms),) if request.total_ms >= 0 else ()
    room = min(max(request.room_ms, 0), request.read_ms)
    found = [Stage(READ, request.read_ms - room), Stage(ROOM, room)]
    found += [
        Stage(name, spent) for name, spent in ((QUEUE, request.queue_ms), (CONNECT, request.connect_ms)) if spent >= 0
    ]
    found += _engine(request, room + max(request.queue_ms, 0) + max(request.connect_ms, 0))
    spent = sum(one.milliseconds for one in found)
    return (*found, Stage(END, max(request.total_ms - spent, 0)))


def _engine(request: Request, before: int) -> list[Stage]:
    """What the engine took; `before`: from the whole request to the engine's having it."""
    if request.headers_ms < 0:
        return []
    if not request.stream:
        return [Stage(WHOLE, request.headers_ms)]
    first, last = request.first_token_ms, request.last_token_ms
    if first is None or first < 0:
        return [Stage(FIRST_TOKEN, request.headers_ms)]
    # Tokens are timed by another clock of HAProxy's, which may be a millisecond ahead: no token comes after the end.
    ends = active_ms(request)
    first, last = min(first, ends), None if last is None else min(last, ends)
    found = [Stage(FIRST_TOKEN, max(first - before, 0))]
    return found if last is None or last < first else [*found, Stage(TOKENS, last - first)]
