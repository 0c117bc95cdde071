"""What is in the way of a start is named before it: who has the port, who is on the GPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import REPOSITORY, load


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launcher as it stands on a node that has one engine, `small`, and gives up at once."""
    module = load("roles/vllm/files/engine.py", "engine_launcher_free")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "FREE_SECONDS", 1)
    return module


def settings(root: Path, port: int, **environment: str) -> None:
    folder = root / "engines" / "small"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"port": port, "environment": environment}))


@pytest.fixture
def listener() -> Iterator[tuple[int, int]]:
    """A process of its own that has a port: (its number, the port)."""
    code = "import socket,sys;s=socket.create_server(('127.0.0.1',0));print(s.getsockname()[1],flush=True);sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_a_free_port_is_no_word(engine: ModuleType, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    settings(tmp_path, port)
    engine.free("small")


def test_who_has_the_port_is_named_with_the_way_out(
    engine: ModuleType, tmp_path: Path, listener: tuple[int, int]
) -> None:
    pid, port = listener
    settings(tmp_path, port)
    with pytest.raises(SystemExit) as told:
        engine.free("small")
    said = str(told.value)
    assert f"its port {port} is taken by process {pid} ({sys.executable} -c" in said
    assert said.endswith("systemctl reset-failed vllm@small && systemctl start vllm@small")


def test_one_on_its_way_out_is_waited_for(
    engine: ModuleType, tmp_path: Path, listener: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, port = listener
    settings(tmp_path, port)
    monkeypatch.setattr(engine, "FREE_SECONDS", 30)
    monkeypatch.setattr(engine.time, "sleep", lambda _: os.kill(pid, 9))
    engine.free("small")


@pytest.mark.parametrize(
    ("unit", "in_the_way"),
    [
        ("vllm@small.service", True),
        ("vllm@small-2.service", False),
        ("jupyter.service", True),
    ],
    ids=["left over from its own crash", "another engine that shares the GPU", "somebody else"],
)
def test_who_is_on_its_gpus(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, in_the_way: bool
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\n[ "$1 $2" = "-i 0,1" ] || exit 6\necho 4711\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(engine, "owner", lambda pid: {"pid": int(pid), "command": "VLLM::EngineCore", "unit": unit})
    settings(tmp_path, 1, CUDA_VISIBLE_DEVICES="0,1")
    if not in_the_way:
        engine.free("small")
        return
    with pytest.raises(SystemExit, match=rf"its GPU 0,1 is taken by process 4711 \(VLLM::EngineCore\) of {unit}"):
        engine.free("small")


def test_a_process_that_ended_meanwhile_is_nobody(engine: ModuleType) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert engine.owner(str(done.pid)) is None


def test_the_verb_is_known() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "roles/vllm/files/engine.py"), "free", "nobody"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "engine.json is missing; run site.yml for this node again" in done.stderr
