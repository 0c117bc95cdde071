"""Engines that stutter: the SLO on the first token burns, somebody is told, and told again when it is over.

Expects the lab with site.yml run. Real vLLM, Prometheus and Alertmanager with the windows of a real service; the lab's small
model is so quick that the threshold is lower, the pauses of Alertmanager between messages are shorter, and Prometheus begins
without a past: hours of other tests would weigh in the long windows. Takes about ten minutes.
"""

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rackserve.definition.load import load_inventory

from drills.results import store

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "inventory" / "lab"
SLO = "small-ttft"
# Some good requests come first: an SLO burns from a state in which it does not.
WARM_SECONDS = 45
CLIENTS, FIRE_WITHIN, CLEAR_WITHIN = 4, 600, 900
THRESHOLD_SECONDS = 0.1
# Nine tenths of the time an engine computes nothing, as one whose GPU is throttled. Its health check goes on to pass.
STUTTER = "while :; do pkill -STOP -f 'VLLM[:]:'; sleep 0.9; pkill -CONT -f 'VLLM[:]:'; sleep 0.1; done"


class Receiver:
    """Keeps what Alertmanager tells, with the time at which it came."""

    def __init__(self, address: str) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.told += [(time.monotonic(), alert) for alert in message["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def when(self, status: str) -> float | None:
        """The first message of that status about the SLO that asks for somebody at once."""
        for moment, alert in self.told:
            labels = alert["labels"]
            if alert["status"] == status and (labels.get("slo"), labels.get("severity")) == (SLO, "page"):
                return moment
        return None


def site(inventory: Path) -> None:
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", "-i", str(inventory)]
    done = subprocess.run(
        [*command, "--tags", "alertmanager,prometheus"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """The lab's Alertmanager tells this process; afterwards nobody, as its inventory says."""
    gateway = json.loads(subprocess.check_output(["ip", "-json", "route", "get", "198.18.0.12"], text=True))
    told = Receiver(gateway[0]["prefsrc"])
    copy = tmp_path / "lab"
    subprocess.run(["cp", "-a", str(LAB), str(copy)], check=True)
    definition = copy / "group_vars" / "all" / "service.yml"
    text = definition.read_text()
    assert text.count("threshold_seconds: 2.5") == 1
    definition.write_text(text.replace("threshold_seconds: 2.5", f"threshold_seconds: {THRESHOLD_SECONDS}"))
    pauses = {"alertmanager_group_wait_seconds": 1, "alertmanager_group_interval_seconds": 5}
    alerts = {"receivers": [{"name": "drill", "kind": "webhook", "url": told.url}]}
    (copy / "group_vars" / "all" / "drill.yml").write_text(yaml.safe_dump({**pauses, "service_alerts": alerts}))
    on("lb2", "systemctl", "stop", "prometheus")
    on("lb2", "find", "/var/lib/prometheus/metrics2", "-mindepth", "1", "-delete")
    site(copy)
    yield told
    site(LAB)
    told.close()


@contextmanager
def stuttering(*names: str) -> Iterator[None]:
    for name in names:
        on(
            name,
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=drill",
            "--property=ExecStopPost=pkill -CONT -f VLLM[:]:",
        )
    try:
        yield
    finally:
        for name in names:
            on(name, "systemctl", "stop", "drill")


def on(name: str, *command: str) -> None:
    more = ["sh", "-c", STUTTER] if command[0] == "systemd-run" else []
    subprocess.run([str(REPOSITORY / "scripts/lab"), "exec", name, "--", *command, *more], check=True, timeout=60)


def until(check: Callable[[], float | None], what: str, seconds: float) -> float:
    end = time.monotonic() + seconds
    while (found := check()) is None:
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(1)
    return found


@contextmanager
def asking(question: Callable[[], float], least: float, most: float) -> Iterator[list[float]]:
    """Clients that ask again and again, after a pause of so many seconds; what each question took."""
    stop = threading.Event()
    took: list[float] = []

    def keep_asking() -> None:
        while not stop.is_set():
            took.append(question())
            stop.wait(random.uniform(least, most))

    clients = [threading.Thread(target=keep_asking) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield took
    finally:
        stop.set()
        for client in clients:
            client.join(timeout=120)


def ask(url: str, key: str) -> float:
    """Seconds to the first token of one stream, read to its end."""
    body = {"model": "small", "stream": True, "max_tokens": 4, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": "Write."}]
    begin, first = time.monotonic(), 0.0
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=120
    ) as answer:
        for piece in answer.iter_raw():
            if not first and b'"delta"' in piece:
                first = time.monotonic() - begin
    return first


def test_an_slo_burns_is_told_and_clears(receiver: Receiver) -> None:
    hosts = load_inventory(LAB).hosts
    url, key = f"http://{hosts['lb1']['ansible_host']}:8080", hosts["lb1"]["vault_demo_key"]
    # A client that went on at once would ask most while a stuttering engine computes.
    with asking(lambda: ask(url, key), 0.3, 0.8):
        time.sleep(WARM_SECONDS)
    assert receiver.when("firing") is None
    with stuttering("gpu1", "gpu2"), asking(lambda: ask(url, key), 0.3, 0.8) as slow:
        began = time.monotonic()
        fired = until(lambda: receiver.when("firing"), "the alert", FIRE_WITHIN)
    ended = time.monotonic()
    with asking(lambda: ask(url, key), 0, 0.1) as fast:
        resolved = until(lambda: receiver.when("resolved"), "the end of the alert", CLEAR_WITHIN)
    figures = {
        "threshold_seconds": THRESHOLD_SECONDS,
        "told_after_seconds": round(fired - began, 1),
        "first_token_seconds_median_while_it_stuttered": round(sorted(slow)[len(slow) // 2], 2),
        "told_of_the_end_after_seconds": round(resolved - ended, 1),
        "first_token_seconds_median_after": round(sorted(fast)[len(fast) // 2], 2),
    }
    store("slo_burn", figures)
    assert figures["first_token_seconds_median_after"] < THRESHOLD_SECONDS
    assert figures["first_token_seconds_median_while_it_stuttered"] > THRESHOLD_SECONDS
