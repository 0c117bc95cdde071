"""The request log: one JSON object per request with every stage's time, and nothing that must stay private."""

import json
import secrets

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer, eventually
from gateway.plan import ENGINE_KEY, KEYS

FIELDS = {
    "time": float,
    "balancer": str,
    "request_id": str,
    "client": str,
    "method": str,
    "path": str,
    "status": int,
    "refused": str,
    "ending": str,
    "tenant": str,
    "key_name": str,
    "lane": str,
    "model": str,
    "pool": str,
    "track": str,
    "route": str,
    "degraded": str,
    "server": str,
    "stream": bool,
    "prompt_tokens": int,
    "tokens": int,
    "tokens_estimated": bool,
    "idle_ms": int,
    "read_ms": int,
    "room_ms": int,
    "queue_ms": int,
    "connect_ms": int,
    "headers_ms": int,
    "data_ms": int,
    "total_ms": int,
    "queued_server": int,
    "queued_pool": int,
    "retries": str,
    "bytes_in": int,
    "bytes_out": int,
}


def test_a_stream_is_logged_with_every_stage(client: httpx.Client, balancer: Balancer) -> None:
    seen = stream(client, chat("chat", stream=True, ttft=0.1, gap=0.1, tokens=4))
    entry = balancer.log_entry(seen.headers["x-request-id"])
    assert {name: type(value) for name, value in entry.items()} == FIELDS
    known = {
        "balancer": "gw1",
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "refused": "-",
        "ending": "--",
        "tenant": "demo",
        "key_name": "demo/demo-1",
        "lane": "interactive",
        "model": "chat",
        "pool": "duo",
        "track": "stable",
        "stream": True,
        "retries": "0",
    }
    assert {name: entry[name] for name in known} == known
    assert entry["server"] in {"duo-1", "duo-2"}
    assert 90 <= entry["headers_ms"] <= 250, entry
    assert 380 <= entry["data_ms"] <= 700, entry
    assert entry["total_ms"] >= entry["headers_ms"] + entry["data_ms"]
    assert entry["bytes_in"] > 100
    assert entry["bytes_out"] > 400


def test_a_refusal_is_logged_with_its_reason(client: httpx.Client, balancer: Balancer) -> None:
    answer = client.post(CHAT, json=chat('no "such" model\n'))
    entry = balancer.log_entry(answer.headers["x-request-id"])
    assert (entry["status"], entry["refused"], entry["model"]) == (404, "model_not_found", 'no "such" model\n')
    assert (entry["pool"], entry["server"], entry["headers_ms"]) == ("-", "<NOSRV>", -1)


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/%00%22", "/ü", "/" + "x" * 5000])
def test_a_strange_path_does_not_break_the_line(client: httpx.Client, balancer: Balancer, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert balancer.log_entry(answer.headers["x-request-id"])["refused"] == "unknown_path"


def test_health_checks_of_the_api_port_are_not_logged(balancer: Balancer) -> None:
    answer = httpx.get(f"{balancer.url}/healthz")
    marker = httpx.get(f"{balancer.url}/marker")
    balancer.log_entry(marker.headers["x-request-id"])
    assert not [line for line in balancer.log_lines() if answer.headers["x-request-id"] in line]


def test_neither_prompts_nor_keys_are_logged(client: httpx.Client, balancer: Balancer) -> None:
    planted = f"planted-{secrets.token_hex(8)}"
    answer = client.post(f"/{planted}", json=chat())
    balancer.log_entry(answer.headers["x-request-id"])
    assert [line for line in balancer.log_lines() if planted in line], "the search finds what is in the log"

    prompt = f"prompt-{secrets.token_hex(8)}"
    bad_key = f"key-{secrets.token_hex(8)}"
    answers = [
        client.post(CHAT, json=chat(content=prompt)),
        client.post(CHAT, json=chat("unknown", content=prompt)),
        client.post(CHAT, content=f'{{"prompt": "{prompt}"'),
        client.post(CHAT, json=chat(content=prompt, hang_up=True)),
        client.post(f"{CHAT}?secret={prompt}", json=chat()),
        httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers={"authorization": f"Bearer {bad_key}"}),
    ]
    for answer in answers:
        balancer.log_entry(answer.headers["x-request-id"])
    text = "\n".join(balancer.log_lines())
    for secret in (prompt, bad_key, *KEYS.values(), ENGINE_KEY):
        assert secret not in text


def test_a_client_that_leaves_is_logged_as_such(balancer: Balancer) -> None:
    headers = {"authorization": f"Bearer {KEYS['demo']}", "x-request-id": f"leaves-{secrets.token_hex(8)}"}
    with httpx.stream(
        "POST", f"{balancer.url}{CHAT}", json=chat(stream=True, gap=0.1, tokens=50), headers=headers
    ) as answer:
        next(answer.iter_lines())
    assert balancer.log_entry(headers["x-request-id"])["ending"].startswith("C")


@pytest.mark.parametrize(
    ("value", "logged"), [(True, True), (False, False), (1, True), ("yes", False), ({}, False), (None, False)]
)
def test_any_value_of_stream_makes_a_readable_line(
    client: httpx.Client, balancer: Balancer, value: object, logged: bool
) -> None:
    answer = client.post(CHAT, json=chat(status=400) | {"stream": value})
    assert balancer.log_entry(answer.headers["x-request-id"])["stream"] is logged


def test_every_line_that_starts_like_an_object_is_one(client: httpx.Client, balancer: Balancer) -> None:
    answer = client.post(CHAT, json=chat())
    balancer.log_entry(answer.headers["x-request-id"])
    lines = [line for line in eventually(balancer.log_lines, "a log") if line.startswith("{")]
    assert lines
    for line in lines:
        json.loads(line)
