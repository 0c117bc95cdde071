"""What the balancer counts against what the engines themselves count, over mixed requests on real vLLM."""

import json
import random
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from conftest import Service, node

ENGINES = (("gpu1", 8001), ("gpu2", 8001), ("gpu2", 8002))
ENDED, CUT, AT_ONCE = 1000, 40, 12
WORDS = ("rack", "server", "lane", "queue", "token", "limit", "the", "of", "a")
# vLLM notices a client that left between two tokens; what it makes until then nobody reads.
TOKENS_AFTER_A_CUT = 8


@dataclass(frozen=True)
class Asked:
    request_id: str
    path: str
    body: dict[str, Any]


def questions(count: int, seed: int, **more: Any) -> Iterator[Asked]:
    """Chat and completions, plain and streamed, both pools, prompts and replies of many lengths."""
    draw = random.Random(seed)
    run = uuid.uuid4().hex[:8]
    for number in range(count):
        text = " ".join(draw.choices(WORDS, k=draw.randint(1, 40)))
        body: dict[str, Any] = {
            "model": draw.choices(("small", "chat", "large"), (5, 3, 2))[0],
            "max_tokens": draw.randint(1, 12),
            "stream": draw.random() < 0.5,
        }
        if draw.random() < 0.7:
            path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": text}]
        else:
            path, body["prompt"] = "/v1/completions", text
        yield Asked(f"metering-{run}-{number}", path, body | more)


def ask(client: httpx.Client, asked: Asked) -> int:
    answer = client.post(asked.path, json=asked.body, headers={"x-request-id": asked.request_id})
    return answer.status_code


def cut(client: httpx.Client, asked: Asked) -> int:
    """Leaves after the first piece of the answer."""
    with client.stream("POST", asked.path, json=asked.body, headers={"x-request-id": asked.request_id}) as answer:
        next(answer.iter_raw())
        return answer.status_code


def counted_by_engines() -> int:
    total = 0.0
    for name, port in ENGINES:
        text = node(name, "curl", "-sf", f"http://127.0.0.1:{port}/metrics")
        pattern = r"^vllm:(?:prompt_tokens|generation_tokens)_total\{[^}]*\} (\S+)$"
        total += sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))
    return int(total)


def still(count: int | None = None) -> int:
    """The engines' count once it no longer moves: they notice a client that left a moment later."""
    end = time.monotonic() + 60
    while (now := counted_by_engines()) != count:
        assert time.monotonic() < end, f"the engines still count after a minute: {now}"
        count = now
        time.sleep(0.5)
    return now


def counted_by_balancer(asked: list[Asked]) -> dict[str, dict[str, Any]]:
    """The request lines, by request id. Waits for the last one."""
    wanted = {one.request_id for one in asked}
    end = time.monotonic() + 60
    while True:
        lines = node("lb1", "journalctl", "-u", "haproxy", "-o", "cat", "--since", "-15min", "--no-pager").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{") and "metering-" in line]
        found = {entry["request_id"]: entry for entry in entries if entry.get("request_id") in wanted}
        if len(found) == len(wanted):
            return found
        assert time.monotonic() < end, f"{len(wanted) - len(found)} of {len(wanted)} requests have no line"
        time.sleep(0.5)


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.urls["lb1"], headers=headers, timeout=120) as client:
        yield client


def test_every_answer_that_ended_is_metered_to_the_token(client: httpx.Client) -> None:
    asked = list(questions(ENDED, seed=5))
    before = still()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        statuses = list(threads.map(lambda one: ask(client, one), asked))
    assert set(statuses) == {200}
    lines = counted_by_balancer(asked)
    assert not [line for line in lines.values() if line["tokens_estimated"]]
    metered, counted = sum(line["tokens"] for line in lines.values()), still() - before
    assert metered == counted, f"balancer: {metered} tokens, engines: {counted}, over {len(asked)} answers"


def test_a_stream_that_the_client_cuts_is_metered_within_a_few_tokens(client: httpx.Client) -> None:
    long = {"stream": True, "max_tokens": 400, "ignore_eos": True}
    asked = list(questions(CUT, seed=6, **long))
    before = still()
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda one: cut(client, one), asked))
    assert set(statuses) == {200}
    lines = counted_by_balancer(asked)
    assert all(line["tokens_estimated"] for line in lines.values()), "a cut stream is counted as an estimate"
    metered, counted = sum(line["tokens"] for line in lines.values()), still() - before
    print(f"{CUT} cut streams: balancer {metered}, engines {counted}")
    assert abs(metered - counted) <= TOKENS_AFTER_A_CUT * CUT, f"balancer: {metered} tokens, engines: {counted}"
