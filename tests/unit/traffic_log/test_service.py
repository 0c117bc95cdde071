"""The real service as a process: lines in, page out; killed, and started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from unit.traffic_log.making import line, text

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@contextmanager
def running(settings: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rackserve.traffic_log", str(settings)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, re.sub(r".* at (\S+)\n", r"http://\1", said(process, "metrics at"))
    finally:
        process.kill()
        process.communicate(timeout=10)


def said(process: "subprocess.Popen[str]", wanted: str) -> str:
    assert process.stderr is not None
    for sentence in process.stderr:
        if wanted in sentence:
            return sentence
    raise AssertionError(f"it ended without saying {wanted!r}")


def page(url: str, until: Callable[[str], bool]) -> str:
    """Asks again, up to a bound: the lines have been sent, the service takes them as soon as it gets the processor."""
    for _ in range(3000):
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: str = answer.read().decode()
        if until(found):
            return found
    raise AssertionError(found)


def send(path: Path, *lines: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(path))
        for one in lines:
            sender.send(one)


def numbered(*numbers: int) -> list[bytes]:
    return [line(process=7, number=number) for number in numbers]


def test_lines_in_page_out_kill_start_again_the_loss_is_said(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(text(tmp_path))
    door = tmp_path / "log.sock"
    with running(settings) as (process, url):
        send(door, *numbered(*range(40)), b"nonsense")
        found = page(url, lambda now: 'rackserve_log_lines_total{state="garbage"} 1.0' in now)
        assert 'rackserve_log_lines_total{state="read"} 40.0' in found
        process.kill()
    with running(settings) as (process, url):
        send(door, *numbered(45, 46))
        assert said(process, "lost").startswith("5 request lines")
        page(url, lambda now: "rackserve_log_lines_lost_total 5.0" in now)
        settings.write_text(text(tmp_path, tenants=[]))
        process.send_signal(signal.SIGHUP)
        said(process, "settings read again")
        send(door, *numbered(47))
        found = page(url, lambda now: 'tenant="other"' in now)
        assert 'rackserve_log_lines_total{state="read"} 3.0' in found
        settings.write_text("{")
        process.send_signal(signal.SIGHUP)
        said(process, "settings stay as they were")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_a_line_of_a_megabyte_is_garbage_and_the_next_one_counts(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(text(tmp_path))
    with running(settings) as (_, url):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # Linux's own limit of a datagram is far less; root may go beyond it. SO_SNDBUFFORCE, which Python does not name.
            sender.setsockopt(socket.SOL_SOCKET, 32 if os.geteuid() == 0 else socket.SO_SNDBUF, 2**22)
            sender.connect(str(tmp_path / "log.sock"))
            with suppress(OSError):
                sender.send(line(path="x" * 2**20))
            sender.send(line(path="x" * 65_536))
            sender.send(line())
        found = page(url, lambda now: 'rackserve_log_lines_total{state="read"} 1.0' in now)
        assert re.search(r'rackserve_log_lines_total\{state="garbage"\} [12]\.0', found), found
    assert b"xxx" not in b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "the whole file"), ('{"node": 5}', "node: "), (None, "cannot be read")],
)
def test_settings_that_cannot_be_used_are_exit_code_2(tmp_path: Path, content: str | None, words: str) -> None:
    settings = tmp_path / "settings.json"
    if content is not None:
        settings.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "rackserve.traffic_log", str(settings)],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
