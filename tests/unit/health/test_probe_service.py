"""The probe as a process, with an engine that is played: what balancers hear, what systemd hears, what is left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from unit.health.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[3]
T = TypeVar("T")


def eventually(check: Callable[[], T], what: str, seconds: float = 15) -> T:
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s; last: {found!r}"
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Probe:
    """One engine, p-1, with short times."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self.directory, self.agent, self.page = directory, free_port(), free_port()
        (directory / "restart").mkdir(exist_ok=True)
        one = {"name": "p-1", "pool": "p", "port": engine.port, "model": "p"}
        settings: dict[str, Any] = {
            "node": "g1",
            "version": "v7",
            "agent": {"port": self.agent},
            "metrics": {"port": self.page},
            "directory": str(directory),
            "stall_seconds": 0.2,
            "idle_seconds": 0.2,
            "engines": [{**one, "token_deadline_seconds": 0.5, "restart_after_seconds": 0.5}],
        }
        (directory / "settings.json").write_text(json.dumps(settings))
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(directory / "notify"))
        self.systemd.settimeout(15)
        self.process = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        environment = {
            "PYTHONPATH": str(REPOSITORY / "scripts"),
            "RACKSERVE_ENGINE_KEY": "sesame",
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "WATCHDOG_USEC": "1000000",
        }
        command = [sys.executable, "-m", "rackserve.health", str(self.directory / "settings.json")]
        process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        while self.systemd.recv(64) != b"READY=1":
            continue
        return process

    def says(self, engine: str = "p-1") -> str:
        with socket.create_connection(("127.0.0.1", self.agent), timeout=5) as talk:
            talk.sendall(f"{engine}\n".encode())
            return talk.makefile().read()

    def figure(self, name: str) -> float:
        page = httpx.get(f"http://127.0.0.1:{self.page}/metrics").text
        return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def restart(self) -> None:
        self.kill()
        self.process = self._started()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=10)
        return said

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.systemd.close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as one:
        yield one


@pytest.fixture
def probe(tmp_path: Path, engine: Engine) -> Iterator[Probe]:
    one = Probe(tmp_path, engine)
    yield one
    one.close()


def test_an_engine_hangs_is_asked_to_be_restarted_and_comes_back(probe: Probe, engine: Engine) -> None:
    eventually(lambda: probe.says() == "up\n", "up")
    assert probe.says("p-9") == "", "an engine of another node is not known"
    assert engine.keys == {"Bearer sesame"}
    eventually(lambda: probe.figure("rackserve_probe_longest_step_seconds") >= 0, "the warm-up's figure")
    assert max(len(one["prompt"]) for one in engine.questions if isinstance(one["prompt"], list)) == 63
    engine.hung = True
    said = eventually(lambda: probe.says() if probe.says() != "up\n" else "", "down")
    assert said.startswith("down #hung: ")
    assert probe.figure('rackserve_probe_state{engine="p-1",pool="p",state="hung"}') == 1
    request = probe.directory / "restart/p-1"
    assert "has not come for" in eventually(lambda: request.read_text() if request.exists() else "", "a request")
    assert json.loads((probe.directory / "state.json").read_text())["p-1"]["restarts"]
    probe.restart()
    assert probe.says().startswith("down #"), "it is not up for a moment because the probe died"
    engine.hung = False
    eventually(lambda: probe.says() == "up\n", "up again")
    assert probe.process.poll() is None
    assert "engine p-1: serving" in probe.stop()
    assert probe.process.returncode == 0


def test_a_killed_engine_is_down_within_two_seconds_and_warmed_before_it_is_up(probe: Probe, engine: Engine) -> None:
    eventually(lambda: probe.says() == "up\n", "up")
    engine.refuse()
    begin = time.monotonic()
    assert "nobody listens" in eventually(lambda: probe.says() if probe.says() != "up\n" else "", "down")
    assert time.monotonic() - begin < 1.5
    before = len(engine.questions)
    engine.listen()
    eventually(lambda: probe.says() == "up\n", "up again")
    assert len(engine.questions) - before >= 4, "one token, two for the time of one, and the longest prompt"


def test_systemd_hears_from_it_as_long_as_it_runs(probe: Probe) -> None:
    assert probe.systemd.recv(64) == b"WATCHDOG=1"
    probe.process.send_signal(signal.SIGSTOP)
    probe.systemd.settimeout(1.5)
    heard = 0
    with contextlib.suppress(TimeoutError):
        while heard < 5:
            probe.systemd.recv(64)
            heard += 1
    assert heard < 5, "one that stands still goes on talking"
    probe.process.send_signal(signal.SIGCONT)
    assert probe.systemd.recv(64) == b"WATCHDOG=1"


def test_the_page_names_program_and_settings(probe: Probe) -> None:
    page = httpx.get(f"http://127.0.0.1:{probe.page}/metrics").text
    assert 'rackserve_probe_info{node="g1",program="none",settings="v7"} 1.0' in page


def test_settings_that_cannot_be_used_are_named_and_the_exit_says_do_not_try_again(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(
        '{"node": "g1", "agent": {"port": "x"}, "metrics": {"port": 0}, "directory": "here", "engines": []}'
    )
    done = subprocess.run(
        [sys.executable, "-m", "rackserve.health", str(path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "agent.port" in done.stderr
    assert "directory" in done.stderr
    assert "Traceback" not in done.stderr
