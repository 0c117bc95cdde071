"""What the balancer counts against what the engines themselves count, over mixed requests on real vLLM."""

import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from conftest import Service, node

ENGINES = (("gpu1", 8001), ("gpu2", 8001), ("gpu2", 8002))
# At most so many at once: less than the smaller pool's slots and queue hold at one balancer, so that nothing is refused.
ENDED, CUT, AT_ONCE = 1000, 40, 5
WORDS = ("rack", "server", "lane", "queue", "token", "limit", "the", "of", "a")
# vLLM notices a client that left between two tokens; what it makes until then nobody reads.
TOKENS_AFTER_A_CUT = 8
ROUNDS = 4


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


def charged(since_minute: int) -> Counter[str]:
    """What the balancer has charged to the tenant since that minute: requests, tokens, and the estimates among them."""
    program = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'show table used-lb1\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    sums: Counter[str] = Counter()
    for line in node("lb1", "python3", "-c", program).splitlines():
        row = re.search(r"key=demo@(\d+) .*gpc0=(\d+) gpc1=(\d+) gpc2=(\d+)", line)
        if row and int(row[1]) >= since_minute:
            sums.update(requests=int(row[2]), tokens=int(row[3]), estimated=int(row[4]))
    return sums


class Meter:
    """Both counts since its start. Shorter than the three minutes for which the balancer keeps its sums."""

    def __init__(self) -> None:
        self._minute = int(time.time() // 60)
        self._engines, self._balancer = still(), charged(self._minute)

    def read(self, requests: int) -> tuple[Counter[str], int]:
        """(charged by the balancer, counted by the engines), once all requests are charged and nothing moves."""
        end = time.monotonic() + 60
        before: Counter[str] = Counter()
        while True:
            now = charged(self._minute)
            now.subtract(self._balancer)
            if now["requests"] == requests and now == before:
                return now, still() - self._engines
            assert time.monotonic() < end, f"{now['requests']} of {requests} requests are charged: {now}"
            before = now
            time.sleep(0.5)


@pytest.fixture(scope="module", autouse=True)
def unprobed() -> Iterator[None]:
    """What the probes ask is on no bill, and would be in the engines' count."""
    names = {name for name, _ in ENGINES}
    for name in names:
        node(name, "systemctl", "stop", "rackserve-engine-probe")
    yield
    for name in names:
        node(name, "systemctl", "start", "rackserve-engine-probe")


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.urls["lb1"], headers=headers, timeout=120) as client:
        yield client


def test_every_answer_that_ended_is_metered_to_the_token(client: httpx.Client) -> None:
    meter = Meter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        statuses = list(threads.map(lambda one: ask(client, one), questions(ENDED, seed=5)))
    assert set(statuses) == {200}
    charge, counted = meter.read(ENDED)
    assert charge["estimated"] == 0, "nothing was cut, so nothing is an estimate"
    assert charge["tokens"] == counted, f"balancer: {charge['tokens']} tokens, engines: {counted}, over {ENDED} answers"


def test_a_stream_that_the_client_cuts_is_metered_within_a_few_tokens(client: httpx.Client) -> None:
    """One after the other: an engine with little to do hears soonest that nobody listens.

    Whoever is late to hear it, client, balancer or engine, lets more tokens be made; on two cores that are all taken some
    round always is. What is counted wrong is wrong in every round, so one good round of a few shows that nothing is.
    """
    long = {"stream": True, "max_tokens": 400, "ignore_eos": True}
    seen: list[str] = []
    for attempt in range(ROUNDS):
        meter = Meter()
        statuses = [cut(client, one) for one in questions(CUT, seed=6 + attempt, **long)]
        assert set(statuses) == {200}
        charge, counted = meter.read(CUT)
        # On a busy machine an answer can be whole before the client has gone; such a stream ended, with the engine's own count.
        assert 0 < charge["estimated"] <= charge["tokens"], "the tokens of a cut stream are counted as estimates"
        seen.append(f"balancer: {charge}, engines: {counted}")
        if abs(charge["tokens"] - counted) <= TOKENS_AFTER_A_CUT * CUT:
            return
    raise AssertionError(seen)
