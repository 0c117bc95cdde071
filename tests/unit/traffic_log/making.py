"""Lines and settings for the tests of the traffic log."""

import json
from pathlib import Path
from typing import Any

from rackserve.traffic_log.line import Request, parse
from rackserve.traffic_log.settings import Settings

FIELDS: dict[str, Any] = {
    "time": 1764403200.123,
    "balancer": "lb1",
    "request_id": "r-1",
    "client": "192.0.2.1",
    "method": "POST",
    "path": "/v1/chat/completions",
    "status": 200,
    "refused": "-",
    "ending": "--",
    "tenant": "demo",
    "key_name": "demo/1",
    "lane": "interactive",
    "model": "chat",
    "pool": "small",
    "track": "stable",
    "route": "-",
    "degraded": "-",
    "server": "small-gpu1",
    "stream": True,
    "prompt_tokens": 20,
    "tokens": 31,
    "tokens_estimated": False,
    "idle_ms": 0,
    "read_ms": 0,
    "room_ms": 0,
    "queue_ms": 5,
    "connect_ms": 1,
    "headers_ms": 94,
    "data_ms": 1000,
    "total_ms": 1100,
    "queued_server": 0,
    "queued_pool": 0,
    "retries": "0",
    "bytes_in": 300,
    "bytes_out": 900,
}


# A second and its neighbours in every histogram; 0.1 for the time from token to token.
EDGES: dict[str, list[float]] = {
    "ttft": [0.1, 1.0, 10.0],
    "inter_token": [0.05, 0.1, 1.0],
    "queue_wait": [0.01, 1.0, 10.0],
    "response_time": [1.0, 10.0, 100.0],
}


def line(**changes: Any) -> bytes:
    return json.dumps(FIELDS | changes).encode()


def request(**changes: Any) -> Request:
    record = parse(line(**changes))
    assert isinstance(record, Request)
    return record


def settings(directory: Path, **changes: Any) -> Settings:
    return Settings.model_validate_json(text(directory, **changes))


def text(directory: Path, **changes: Any) -> str:
    values: dict[str, Any] = {
        "node": "lb1",
        "listen": {"address": "127.0.0.1", "port": 0},
        "socket": str(directory / "log.sock"),
        "directory": str(directory),
        "pools": {"small": {"silence_seconds": 2}},
        "lanes": ["interactive", "batch", "internal"],
        "tenants": ["demo"],
        "edges": EDGES,
        "retention": {"total_bytes": 1_000_000, "classes": {"default": {"days": 14}}},
    }
    return json.dumps(values | changes)
