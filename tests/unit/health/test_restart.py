"""What is done to a hung engine, by a systemctl and a py-spy that are played."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rackserve.health import stacks
from rackserve.health.restart import take

REPOSITORY = Path(__file__).resolve().parents[3]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A directory of requests, one for dumps, and a systemctl that writes down what it is told."""
    (tmp_path / "run/restart").mkdir(parents=True)
    (tmp_path / "dumps").mkdir()
    program(tmp_path / "bin/systemctl", f'#!/bin/sh\necho "$@" >> {tmp_path}/orders\n[ "$SYSTEMD_REFUSES" != "$2" ]\n')
    settings: dict[str, Any] = {
        "node": "g1",
        "agent": {"port": 0},
        "metrics": {"port": 0},
        "directory": f"{tmp_path}/run",
        "dumps": f"{tmp_path}/dumps",
        "engines": [
            {
                "name": name,
                "pool": "p",
                "port": 8001,
                "model": "p",
                "token_deadline_seconds": 10,
                "restart_after_seconds": 120,
            }
            for name in ("p-1", "p-2")
        ],
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    return tmp_path


def carry_out(node: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rackserve.health.restart", str(node / "settings.json")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{node}/bin:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY / "scripts"), **environment},
    )


def orders(node: Path) -> list[str]:
    return (node / "orders").read_text().splitlines() if (node / "orders").exists() else []


def test_a_hung_engine_is_killed_whole_and_started_and_its_request_is_gone(node: Path) -> None:
    (node / "run/restart/p-1").write_text("hung for 120 s\n")
    done = carry_out(node)
    assert done.returncode == 0, done.stderr
    kill, start = "--no-pager kill --kill-whom=all --signal=KILL", "--no-pager restart --no-block"
    assert [one for one in orders(node) if one.startswith((kill, start))] == [
        f"{kill} vllm@p-1.service",
        f"{start} vllm@p-1.service",
    ]
    assert not list((node / "run/restart").iterdir())
    (dump,) = (node / "dumps").iterdir()
    assert dump.name.startswith("p-1-")
    assert "hung for 120 s" in dump.read_text()


def test_a_name_that_is_no_engine_of_the_node_touches_nothing(node: Path) -> None:
    (node / "run/restart/sshd").write_text("please\n")
    done = carry_out(node)
    assert (done.returncode, orders(node)) == (0, [])
    assert "'sshd' is no engine of this node" in done.stderr
    assert not list((node / "run/restart").iterdir()), "or systemd would start this for ever"


def test_a_restart_that_systemd_refuses_is_a_failure(node: Path) -> None:
    (node / "run/restart/p-1").write_text("hung\n")
    assert carry_out(node, SYSTEMD_REFUSES="restart").returncode == 1


def test_a_dump_that_cannot_be_kept_holds_nothing_up(node: Path) -> None:
    (node / "dumps").rmdir()
    (node / "run/restart/p-1").write_text("hung\n")
    done = carry_out(node)
    assert done.returncode == 0
    assert "stacks not kept" in done.stderr
    assert any("restart" in one for one in orders(node))


def test_a_link_is_no_request_and_shows_nobodys_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame")
    requests = tmp_path / "requests"
    requests.mkdir()
    (requests / "p-1").symlink_to(secret)
    assert take(requests) == {}
    assert secret.exists()
    assert not list(requests.iterdir())


def test_stacks_name_every_thread_and_hold_what_the_spy_said(tmp_path: Path) -> None:
    spy = program(tmp_path / "spy", '#!/bin/sh\necho "stack of $4"\n')
    text = stacks.dump([os.getpid()], spy)
    assert f"=== process {os.getpid()}: " in text
    assert f"thread {os.getpid()} " in text
    assert f"stack of {os.getpid()}" in text


def test_stacks_without_a_spy_say_so_and_still_show_threads(tmp_path: Path) -> None:
    text = stacks.dump([os.getpid()], tmp_path / "none")
    assert f"thread {os.getpid()} " in text
    assert "No such file" in text


def test_processes_of_a_group_and_of_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("7\n12\n")
    (tmp_path / "below/cgroup.procs").write_text("9\n")
    assert stacks.processes(tmp_path / "cgroup.procs") == [7, 9, 12]
    assert stacks.processes(tmp_path / "none/cgroup.procs") == []
    assert stacks.processes(None) == []
    assert stacks.dump([], tmp_path) == "no process is left\n"
