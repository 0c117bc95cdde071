"""What a request came to, from HAProxy's own words: termination state, status, refusal, timers. Pure.

The termination state (`ending`, %ts) has two letters: who ended it and in which stage; HAProxy's configuration manual,
"Stream state at disconnection".
"""

from enum import StrEnum

from rackserve.traffic_log.line import Request

NONE = "-"
NO_SERVER = "<NOSRV>"


class Outcome(StrEnum):
    """How a request ended, as users and the operator tell it apart."""

    OK = "ok"
    ENGINE_ERROR = "engine_error"  # 5xx of the engine, or an error event in a stream that began with 200
    CUT = "cut"  # the engine broke off
    TIMEOUT = "timeout"  # silent for too long, or over its deadline
    UNREACHABLE = "unreachable"  # no engine took it
    REFUSED = "refused"  # the operator's rules: a limit, the queue, a key
    CLIENT_ERROR = "client_error"  # the client's fault
    CLIENT_GONE_BEFORE = "client_gone_before"  # the client left before the first token
    CLIENT_GONE_AFTER = "client_gone_after"


_REFUSALS = {
    "no_engine": Outcome.UNREACHABLE,
    "generation_timeout": Outcome.TIMEOUT,
    "engine_timeout": Outcome.TIMEOUT,
    "prompt_too_long_now": Outcome.REFUSED,
    "lane_not_allowed": Outcome.REFUSED,
    "priority_not_allowed": Outcome.REFUSED,
    "file_urls_not_allowed": Outcome.REFUSED,
    "poisonous_request": Outcome.REFUSED,
}
_RULE_STATUS = {401, 403, 429, 503}
_STARTED = "DL"
_UNSERVED = "RQCT"


def outcome(request: Request, silence_ms: float | None = None) -> Outcome:
    """silence_ms: longest silence of the pool's streams, None: unknown.

    HAProxy ends a stream that fell silent as if the client had left; only the time of the last token tells them apart.
    """
    if request.refused != NONE:
        return _of_refusal(request)
    who, stage = request.ending[:1] or NONE, request.ending[1:2] or NONE
    if who in "Cc" and request.stream_done:
        return _of_status(request)  # it has every event: OpenAI's library closes at the last one
    if who in "Cc":
        return _of_client(request, who, stage, silence_ms)
    if who == "s":
        return _of_server_timeout(stage)
    if who in "SDUK":
        return Outcome.UNREACHABLE if stage in _UNSERVED else Outcome.CUT
    if who in "RI":
        return Outcome.CUT if stage in _STARTED else Outcome.UNREACHABLE
    if who == "P":
        return _of_proxy(request, stage)
    return _of_status(request)


def first_token_seen(request: Request) -> bool:
    if request.first_token_ms is not None:
        return request.first_token_ms >= 0
    return request.headers_ms >= 0 and (request.tokens > 0 or not request.stream)


def _of_refusal(request: Request) -> Outcome:
    known = _REFUSALS.get(request.refused)
    if known is not None:
        return known
    if request.status in _RULE_STATUS or request.refused.endswith("_exceeded"):
        return Outcome.REFUSED
    return Outcome.CLIENT_ERROR if request.status < 500 else Outcome.UNREACHABLE


def _of_client(request: Request, who: str, stage: str, silence_ms: float | None) -> Outcome:
    if who == "c" and stage == "R":
        return Outcome.CLIENT_ERROR  # it did not send its request in time
    if _fell_silent(request, silence_ms):
        return Outcome.TIMEOUT
    return Outcome.CLIENT_GONE_AFTER if first_token_seen(request) else Outcome.CLIENT_GONE_BEFORE


def _fell_silent(request: Request, silence_ms: float | None) -> bool:
    last = request.last_token_ms
    if silence_ms is None or last is None or last < 0 or not request.stream:
        return False
    return active_ms(request) - last >= silence_ms


def active_ms(request: Request) -> int:
    """From the moment the whole request was there to its end; HAProxy's %Ta begins with its first byte.

    The waiting room runs while HAProxy still counts reading (docs/traffic.md), so its time is taken back in.
    """
    reading = max(request.read_ms, 0) - max(request.room_ms, 0)
    return max(request.total_ms - max(reading, 0), 0)


def _of_server_timeout(stage: str) -> Outcome:
    if stage == "Q":
        return Outcome.REFUSED  # waited too long in the queue
    return Outcome.UNREACHABLE if stage in _UNSERVED else Outcome.TIMEOUT


def _of_proxy(request: Request, stage: str) -> Outcome:
    if stage == "H":
        return Outcome.ENGINE_ERROR  # an answer that is not HTTP
    if stage in _STARTED:
        return Outcome.CUT
    return _of_status(request)


def _of_status(request: Request) -> Outcome:
    status = request.status
    if request.stream_error:
        return Outcome.ENGINE_ERROR
    if 100 <= status < 400:
        return Outcome.OK
    if request.server == NO_SERVER and status in _RULE_STATUS - {503}:
        return Outcome.REFUSED
    if 400 <= status < 500:
        return Outcome.CLIENT_ERROR
    return Outcome.UNREACHABLE if request.server == NO_SERVER or status < 100 else Outcome.ENGINE_ERROR
