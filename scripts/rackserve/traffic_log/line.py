"""One line of the request log -> a typed record. Whatever comes, nothing is raised."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

# HAProxy cuts its lines at 8 KiB (templates/haproxy/00-global.cfg.j2); what is longer is not one of them.
LONGEST_LINE = 65_536

Milliseconds = Annotated[int, Field(ge=-1, le=10**12, description="-1: the stage was never reached")]
Amount = Annotated[int, Field(ge=-1, le=10**15)]
Text = Annotated[str, Field(max_length=8192)]


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class Request(_Line):
    """The fields of templates/haproxy/90-log.cfg.j2. Those with a default came later, or were never known."""

    time: float
    balancer: Text
    request_id: Text
    client: Text
    method: Text
    path: Text
    status: int
    refused: Text
    ending: Text
    tenant: Text
    key_name: Text
    lane: Text
    model: Text
    pool: Text
    track: Text
    route: Text
    degraded: Text
    server: Text
    stream: bool
    prompt_tokens: Amount
    tokens: Amount
    tokens_estimated: bool
    idle_ms: Milliseconds
    read_ms: Milliseconds
    room_ms: Milliseconds
    queue_ms: Milliseconds
    connect_ms: Milliseconds
    headers_ms: Milliseconds
    data_ms: Milliseconds
    total_ms: Milliseconds
    queued_server: Amount
    queued_pool: Amount
    retries: Text
    bytes_in: Amount
    bytes_out: Amount
    number: Amount | None = None
    process: Amount | None = None
    first_token_ms: Milliseconds | None = None
    last_token_ms: Milliseconds | None = None
    stream_error: bool = False
    stream_done: bool = False
    scenario: Text = "-"
    origin: Text = "-"
    trace_id: Text = "-"
    missed_by: Text = "-"

    @property
    def reply_tokens(self) -> int:
        """`tokens` is what engines call total_tokens: prompt and reply."""
        return max(self.tokens - max(self.prompt_tokens, 0), 0)


class BadConnection(_Line):
    """A connection that never became a request (error-log-format)."""

    time: float
    balancer: Text
    client: Text
    status: int
    refused: Text
    detail: Text
    number: Amount | None = None
    process: Amount | None = None


class Event(_Line):
    """What the balancer's own programs say, such as an opened breaker."""

    event: Text
    number: None = None
    process: None = None


class Notice(_Line):
    """A sentence of HAProxy's own about the frontend, which it sends where the frontend's lines go: on a reload, at a limit."""

    text: Text
    number: None = None
    process: None = None


Record = Request | BadConnection | Event | Notice
# How they begin: HAProxy 2.6 to 3.2, proxy.c, listener.c, haproxy.c and the protocols'.
_NOTICE = re.compile(
    rb"(?:Proxy|Paused|Resumed|Stopping|Port|SIGHUP received,|Server|Backup Server|[Ff]rontend) [\x20-\x7e]{1,1000}"
)
_OTHERS: TypeAdapter[BadConnection | Event] = TypeAdapter(BadConnection | Event)


def parse(line: bytes) -> Record | None:
    """None: not a line of ours (too long, cut off, no JSON, a value of another type or NaN)."""
    if len(line) > LONGEST_LINE:
        return None
    try:
        return Request.model_validate_json(line)
    except ValidationError:
        pass
    try:
        return _OTHERS.validate_json(line)
    except ValidationError:
        pass
    return Notice(text=line.decode("ascii")) if _NOTICE.fullmatch(line) else None
