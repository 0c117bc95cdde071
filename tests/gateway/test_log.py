"""The request log: one JSON object per request with every stage's time, and nothing that must stay private."""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer, eventually
from gateway.plan import ENGINE_KEY, KEYS

FIELDS = {
    "time": float,
    "number": int,
    "process": int,
    "balancer": str,
    "request_id": str,
    "client": str,
    "method": str,
    "path": str,
    "status": int,
    "refused": str,
    "ending": str,
    "origin": str,
    "scenario": str,
    "tenant": str,
    "key_name": str,
    "lane": str,
    "model": str,
    "pool": str,
    "track": str,
    "missed_by": str,
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
    "first_token_ms": int,
    "last_token_ms": int,
    "stream_error": bool,
    "stream_done": bool,
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
        "origin": "client",
        "scenario": "-",
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
    assert 90 <= entry["first_token_ms"] <= 250, entry
    assert entry["first_token_ms"] + 280 <= entry["last_token_ms"] <= entry["total_ms"], entry
    assert entry["stream_error"] is False
    assert entry["total_ms"] >= entry["headers_ms"] + entry["data_ms"]
    assert entry["bytes_in"] > 100
    assert entry["bytes_out"] > 400


@pytest.mark.parametrize(("leave_at", "done"), [("[DONE]", True), ("data: ", False)])
def test_a_client_that_leaves_at_the_last_event_has_its_whole_answer(
    client: httpx.Client, balancer: Balancer, leave_at: str, done: bool
) -> None:
    """As OpenAI's library does, which waits for no end of the body."""
    body = chat("chat", stream=True, tokens=4, gap=0.2, linger=30)
    with client.stream("POST", CHAT, json=body) as answer:
        assert any(leave_at in text for text in answer.iter_text())
    entry = balancer.log_entry(answer.headers["x-request-id"])
    assert (entry["ending"], entry["stream_done"], entry["tokens_estimated"]) == ("CD", done, not done)


def test_an_error_within_a_stream_is_logged_though_its_status_is_200(client: httpx.Client, balancer: Balancer) -> None:
    seen = stream(client, chat("chat", stream=True, tokens=4, fail_after=2))
    entry = balancer.log_entry(seen.headers["x-request-id"])
    assert (entry["status"], entry["ending"], entry["stream_error"]) == (200, "--", True)
    assert entry["first_token_ms"] >= 0


def test_a_text_that_looks_like_an_error_event_is_none(client: httpx.Client, balancer: Balancer) -> None:
    text = 'data: {"error": 1}\n\nevent: error\ndata: {"error":{}}'
    seen = stream(client, chat("chat", stream=True, tokens=2, text=text))
    assert any(json.dumps(text) in data for _, data in seen.events), "the engine says it"
    assert balancer.log_entry(seen.headers["x-request-id"])["stream_error"] is False


def test_a_stream_without_a_token_has_no_time_of_one(client: httpx.Client, balancer: Balancer) -> None:
    seen = stream(client, chat("chat", stream=True, tokens=2, fail_after=0))
    entry = balancer.log_entry(seen.headers["x-request-id"])
    assert (entry["first_token_ms"], entry["last_token_ms"], entry["stream_error"]) == (-1, -1, True)


def test_the_first_token_counts_from_the_whole_request_through_the_queue(
    client: httpx.Client, balancer: Balancer
) -> None:
    """The pool has eight slots: the last four wait."""
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(stream, client, chat("wide", stream=True, ttft=0.2, tokens=2)) for _ in range(12)]
        seen = [job.result() for job in jobs]
    entries = [balancer.log_entry(one.headers["x-request-id"]) for one in seen if one.status == 200]
    waited = [entry for entry in entries if entry["queue_ms"] + entry["room_ms"] >= 150]
    assert waited, "somebody had to wait"
    for entry in entries:
        wait = entry["queue_ms"] + entry["room_ms"]
        assert wait + 190 <= entry["first_token_ms"] <= wait + 450, entry


def test_lines_are_numbered_by_their_process(client: httpx.Client, balancer: Balancer) -> None:
    entries = [balancer.log_entry(client.post(CHAT, json=chat()).headers["x-request-id"]) for _ in range(3)]
    assert len({entry["process"] for entry in entries}) == 1
    numbers = [entry["number"] for entry in entries]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


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
