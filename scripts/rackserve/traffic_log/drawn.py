"""What a request says about the track that was drawn for it, while a release is tried. Pure."""

from rackserve.traffic_log.line import Request
from rackserve.traffic_log.outcome import Outcome

MISSED, EMPTY, QUEUED_OUT = "missed", "empty", "queue_timeout"
# With the end mark alone an answer has no text. One that was asked for a single token looks the same, on every track.
_EMPTY_TOKENS = 1


def to_its_track(request: Request, came_to: Outcome, drawn: str, reason: str) -> str:
    """An outcome, or what only tracks are told apart by: `missed`, no engine of it was there and stable served; `empty`; and
    `queue_timeout`, it took nothing from its queue in time."""
    if drawn != request.track:
        return MISSED
    if reason == QUEUED_OUT:
        return QUEUED_OUT
    known = request.tokens > 0 and not request.tokens_estimated
    if came_to is Outcome.OK and request.method == "POST" and known and request.reply_tokens <= _EMPTY_TOKENS:
        return EMPTY
    return came_to.value
