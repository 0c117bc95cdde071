"""No plain key anywhere but on the operator's screen. The search first has to find a planted one."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rackserve.definition.load import load_inventory
from rackserve.fleet.haproxy_files import render
from rackserve.fleet.haproxy_variables import variables
from rackserve.fleet.keys_apply import entries_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from unit.fleet.fake_haproxy import FakeHaproxy

REPOSITORY = Path(__file__).resolve().parents[3]
BALANCERS = ("lb1", "lb2")


class ProcessWatch:
    """Every command line and environment that exists while it runs, looked at again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "ProcessWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        self.seen.add((process / name).read_bytes())
                    except OSError:
                        continue
            self._stop.wait(0.005)


def files_with(key: str, *folders: Path) -> list[str]:
    return [
        str(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and key.encode() in path.read_bytes()
    ]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lab's inventory with both balancers on this machine: their files below tmp_path, their sockets played."""
    copy = tmp_path / "inventory"
    shutil.copytree(REPOSITORY / "inventory/lab", copy)
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "haproxy").write_text("#!/bin/sh\n")
    (programs / "haproxy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    fakes = []
    for name in BALANCERS:
        (tmp_path / name / "run").mkdir(parents=True)
        hosts["all"]["hosts"][name] |= {
            "ansible_connection": "local",
            "haproxy_config_directory": str(tmp_path / name / "etc"),
            "haproxy_runtime_directory": str(tmp_path / name / "run"),
        }
        fakes.append(FakeHaproxy(tmp_path / name / "run" / "admin.sock"))
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts))
    loaded = load_inventory(copy)
    for name, fake in zip(BALANCERS, fakes, strict=True):
        candidate = render(variables(loaded, name), name)
        folder = tmp_path / name / "etc" / "candidates" / f"20260101T000000-{candidate.digest}"
        for file in candidate.files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).write_text(file.text)
            if file.path.startswith("maps/"):
                fake.maps[file.path] = entries_of(file.text)
        (tmp_path / name / "etc" / "current").symlink_to(f"candidates/{folder.name}")
    with fakes[0], fakes[1]:
        yield copy
    commands = tmp_path / "commands.log"
    commands.write_text("\n".join(command for fake in fakes for command in fake.commands))


def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "scripts/keys"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)


def test_a_key_is_shown_once_and_stands_nowhere(inventory: Path, tmp_path: Path) -> None:
    with ProcessWatch() as watch:
        done = keys("new", "demo", "-i", str(inventory))
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert key.startswith("sk-")
    assert len(key) > 40
    assert key not in done.stderr
    assert [name for name in BALANCERS if f"{name}: changed" in done.stderr] == list(BALANCERS)

    planted = tmp_path / "planted"
    planted.write_text(f"export OPENAI_API_KEY={key}\n")
    assert files_with(key, tmp_path) == [str(planted)], "the search finds a planted key, and no other"
    with ProcessWatch() as planted_watch:
        subprocess.run(["sh", "-c", "sleep 0.3", key], check=True)
    assert any(key.encode() in seen for seen in planted_watch.seen), "the watch sees a key on a command line"
    assert not [seen for seen in watch.seen if key.encode() in seen]
    home = Path.home() / ".ansible"
    assert not files_with(key, *[folder for folder in (home, REPOSITORY / "inventory") if folder.exists()])


def test_a_rotation_on_both_balancers_and_back(inventory: Path) -> None:
    rotated = keys("rotate", "demo", "--days", "3", "-i", str(inventory), "--json")
    assert rotated.returncode == 0, rotated.stderr
    answer = json.loads(rotated.stdout)
    assert {one["state"] for one in answer["balancers"].values()} == {"changed"}
    listed = {
        one["id"]: one["state"] for one in json.loads(keys("list", "demo", "--json", "-i", str(inventory)).stdout)
    }
    assert listed == {"demo-1": "expires", "demo-2": "valid"}
    again = keys("rotate", "demo", "-i", str(inventory))
    assert (again.returncode, "a rotation is under way" in again.stderr) == (4, True)
    revoked = keys("revoke", "demo", "demo-1", "-i", str(inventory))
    assert revoked.returncode == 0, revoked.stderr
    assert keys("sync", "-i", str(inventory)).stderr.count("as it should be") == 2


def test_a_balancer_that_is_down_is_named_and_the_other_has_it(inventory: Path, tmp_path: Path) -> None:
    socket = tmp_path / "lb2" / "run" / "admin.sock"
    socket.rename(socket.with_suffix(".away"))
    done = keys("new", "demo", "-i", str(inventory))
    assert done.returncode == 1
    assert done.stdout.startswith("sk-")
    assert "lb1: changed" in done.stderr
    assert "lb2: failed" in done.stderr
    assert "scripts/keys sync" in done.stderr
    socket.with_suffix(".away").rename(socket)
    synced = keys("sync", "-i", str(inventory))
    assert synced.returncode == 0, synced.stderr
    assert ("lb1: as it should be" in synced.stderr, "lb2: changed" in synced.stderr) == (True, True)


def test_a_change_that_makes_the_inventory_wrong_is_taken_back(inventory: Path) -> None:
    file = inventory / "group_vars/all/service.yml"
    before = file.read_text()
    done = keys("revoke", "operations", "probe", "-i", str(inventory))
    assert done.returncode == 2
    assert "belongs to no tenant" in done.stderr
    assert file.read_text() == before
