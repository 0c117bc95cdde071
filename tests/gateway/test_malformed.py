"""Thousands of wrong requests: the balancer never fails, never dies, never grows, and still serves.

RACKSERVE_TEST_SEED chooses another set; the seed is in every message.
"""

import json
import os
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, eventually
from gateway.malformed import Case, cases, head
from gateway.stub import Stub

SEED = int(os.environ.get("RACKSERVE_TEST_SEED", "20261129"))
NUMBER = 5400
WARM_UP = 600
CONNECTIONS = 24
# The process may hold on to what the warm-up made it allocate, and to a little more where requests happen to meet.
GROWTH = 1.5
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


def send(balancer: Balancer, case: Case) -> bytes:
    """What comes back until the balancer closes. A client that waits for more bytes ends its side after a moment."""
    received = b""
    with socket.create_connection(balancer.api, timeout=10) as connection:
        try:
            connection.sendall(case.sent)
            if case.half_close:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.settimeout(1)
            while True:
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    if connection.gettimeout() != 1:
                        break
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(10)
                    continue
                if not piece:
                    break
                received += piece
        except OSError:
            # Refused while we were still sending: as good an end as any.
            pass
    return received


def failures(received: bytes) -> list[int]:
    """Answers 5xx that the balancer made itself; the stub's say who made them."""
    if b"made by the stub" in received:
        return []
    return [int(status) for status in STATUS.findall(received) if status.startswith(b"5")]


def resident_kib(balancer: Balancer) -> int:
    process = dict(line.split(": ", 1) for line in balancer.runtime("show info").splitlines() if ": " in line)["Pid"]
    return int(balancer.node.run(f"awk '/VmRSS/ {{print $2}}' /proc/{process}/status"))


def worker(balancer: Balancer) -> str:
    return next(line for line in balancer.runtime("show info").splitlines() if line.startswith("Pid: "))


def test_thousands_of_malformed_requests_hurt_nobody(
    balancer: Balancer, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = cases(SEED, NUMBER)
    process = worker(balancer)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(lambda case: send(balancer, case), wrong[:WARM_UP]))
        before = resident_kib(balancer)
        begin = time.monotonic()
        answers += pool.map(lambda case: send(balancer, case), wrong[WARM_UP:])
    seconds = time.monotonic() - begin
    after = resident_kib(balancer)
    bad = [
        (case.kind, status, case.sent[:300])
        for case, received in zip(wrong, answers, strict=True)
        for status in failures(received)
    ]
    counted = Counter(status.decode() for received in answers for status in STATUS.findall(received)[:1])
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {NUMBER} requests, the last {NUMBER - WARM_UP} in {seconds:.0f} s, {before} -> {after} KiB, {dict(counted)}"
        )
    assert not bad, f"seed {SEED}: {len(bad)} failures, such as {bad[:5]}"
    for line in balancer.log_lines():
        if line.startswith("{"):
            json.loads(line)
    assert worker(balancer) == process, f"seed {SEED}: the worker is another one"
    assert after <= before * GROWTH, f"seed {SEED}: {before} KiB before, {after} KiB after"
    assert counted["200"], "some of them are requests that an engine answers"
    assert counted["400"] > NUMBER / 10
    assert client.post(CHAT, json=chat()).status_code == 200


def test_slow_clients_are_ended_and_leave_nothing(balancer: Balancer, client: httpx.Client, stub: Stub) -> None:
    """One byte at a time, in headers and in bodies: the time is for all of it, so a byte wins nothing."""
    begun = [
        head(b"content-length: 500")[:-20],
        head(b"content-length: 500"),
        head(b"transfer-encoding: chunked") + b"1ff\r\n",
    ]
    answers: list[bytes] = []

    def drip(start: bytes) -> None:
        received = b""
        with socket.create_connection(balancer.api, timeout=20) as connection:
            connection.sendall(start)
            end = time.monotonic() + 20
            connection.settimeout(0.1)
            while time.monotonic() < end:
                try:
                    piece = connection.recv(65536)
                    received += piece
                    if not piece:
                        break
                except TimeoutError:
                    try:
                        connection.sendall(b"a")
                    except OSError:
                        continue
                except OSError:
                    break
        answers.append(received)

    threads = [threading.Thread(target=drip, args=(start,)) for start in begun * 8]
    for thread in threads:
        thread.start()
    assert client.post(CHAT, json=chat()).status_code == 200, "others are served meanwhile"
    for thread in threads:
        thread.join()
    assert Counter(tuple(STATUS.findall(answer)) for answer in answers) == {(b"408",): 24}
    assert len(stub.seen()) == 1
    eventually(lambda: b"CurrConns: " and int(current(balancer)) <= 3, "their connections are gone")


def current(balancer: Balancer) -> str:
    return next(
        line.split(": ")[1] for line in balancer.runtime("show info").splitlines() if line.startswith("CurrConns: ")
    )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["model", "messages", "stream", "max_tokens", "n", "prompt", "input", "best_of"])


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(NAMES, VALUES, max_size=6) | VALUES)
def test_whatever_json_comes_the_answer_is_clear(client: httpx.Client, body: Any) -> None:
    if isinstance(body, dict):
        body.pop("stub", None)
    answer = (
        client.post(CHAT, json=body) if finite(body) else client.post(CHAT, content=str(body).encode(errors="replace"))
    )
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert error_of(answer)["message"]


def finite(body: Any) -> bool:
    try:
        httpx.Request("POST", "http://a", json=body).read()
    except ValueError:
        return False
    return True


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=300))
def test_whatever_bytes_come_the_answer_is_clear(client: httpx.Client, body: bytes) -> None:
    answer = client.post(CHAT, content=body)
    assert 400 <= answer.status_code < 500
    assert error_of(answer)["message"]
