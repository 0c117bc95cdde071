"""Outcomes, by HAProxy's termination state, status and refusal."""

from typing import Any

import pytest
from rackserve.traffic_log.outcome import outcome
from unit.traffic_log.making import request

PLAIN = {"stream": False}
NOBODY = {"server": "<NOSRV>", "headers_ms": -1, "tokens": 0}
TABLE: list[tuple[dict[str, Any], str]] = [
    ({}, "ok"),
    ({"ending": "LR", **NOBODY}, "ok"),
    ({"status": 500}, "engine_error"),
    ({"status": 503}, "engine_error"),
    ({"stream_error": True}, "engine_error"),
    ({"ending": "PH", "status": 502}, "engine_error"),
    ({"ending": "SD"}, "cut"),
    ({"ending": "SH", "status": 502}, "cut"),
    ({"ending": "DD"}, "cut"),
    ({"ending": "PD"}, "cut"),
    ({"ending": "sH", "status": 504}, "timeout"),
    ({"ending": "sD"}, "timeout"),
    ({"refused": "generation_timeout"}, "timeout"),
    ({"ending": "cD", "first_token_ms": 100, "last_token_ms": 200, "total_ms": 2200}, "timeout"),
    ({"ending": "CD", "first_token_ms": 100, "last_token_ms": 201, "total_ms": 2200}, "client_gone_after"),
    ({"ending": "SC", "status": 503}, "unreachable"),
    ({"ending": "sC", "status": 503}, "unreachable"),
    ({"ending": "LR", "status": 503, "refused": "no_engine", **NOBODY}, "unreachable"),
    ({"ending": "RC", "status": 500, **NOBODY}, "unreachable"),
    ({"ending": "sQ", "status": 503, **NOBODY}, "refused"),
    ({"ending": "LR", "status": 503, "refused": "queue_full", **NOBODY}, "refused"),
    ({"ending": "LR", "status": 503, "refused": "lane_queue_full", **NOBODY}, "refused"),
    ({"ending": "LR", "status": 429, "refused": "rate_limit_exceeded", **NOBODY}, "refused"),
    ({"ending": "LR", "status": 401, "refused": "invalid_api_key", **NOBODY}, "refused"),
    ({"ending": "LR", "status": 400, "refused": "max_tokens_exceeded", **NOBODY}, "refused"),
    ({"ending": "LR", "status": 404, "refused": "model_not_found", **NOBODY}, "client_error"),
    ({"ending": "LR", "status": 413, "refused": "request_too_large", **NOBODY}, "client_error"),
    ({"ending": "cR", "status": 408, **NOBODY}, "client_error"),
    ({"ending": "PR", "status": 400, **NOBODY}, "client_error"),
    ({"status": 400}, "client_error"),
    ({"ending": "CQ", **NOBODY}, "client_gone_before"),
    ({"ending": "CR", "status": 400, **NOBODY}, "client_gone_before"),
    ({"ending": "CD", "first_token_ms": -1}, "client_gone_before"),
    ({"ending": "CD", "tokens": 0}, "client_gone_before"),
    ({"ending": "CD", **PLAIN}, "client_gone_after"),
    ({"ending": "CD"}, "client_gone_after"),
    ({"ending": "CD", "stream_done": True}, "ok"),
    ({"ending": "CD", "stream_done": True, "stream_error": True}, "engine_error"),
    ({"ending": "SD", "stream_done": True}, "cut"),
    ({"ending": "cD", "first_token_ms": 100, "last_token_ms": 200, "total_ms": 2200, "stream_done": True}, "ok"),
    ({"ending": ""}, "ok"),
    ({"ending": "??", "status": -1}, "unreachable"),
]


@pytest.mark.parametrize(("changes", "expected"), TABLE, ids=lambda value: str(value))
def test_outcome(changes: dict[str, Any], expected: str) -> None:
    assert outcome(request(**changes), silence_ms=2000) == expected
