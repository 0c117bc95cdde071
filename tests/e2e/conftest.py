"""The whole service on the rack lab. Expects `scripts/lab up` and site.yml to have run (tests/run e2e does both)."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from rackserve.definition.load import load_inventory

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = ("lb1", "lb2", "gpu1", "gpu2")


@dataclass(frozen=True)
class Service:
    """Where the service of the lab answers and with which key."""

    urls: Mapping[str, str]
    key: str
    pools: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """What one ansible-playbook run did: per task the hosts it changed, with the diffs, and per host the totals."""

    status: int
    stats: Mapping[str, Mapping[str, int]]
    changes: Mapping[str, Mapping[str, Any]]
    output: str

    def changed(self) -> list[str]:
        """'host: task' for each change, for messages and comparisons."""
        return sorted(f"{host}: {task}" for task, hosts in self.changes.items() for host in hosts)


def playbook(*arguments: str, inventory: Path | None = None, limit_seconds: int = 900) -> Run:
    """Runs site.yml and returns what it did. A time-out is an error of the test."""
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", *arguments]
    if inventory is not None:
        command += ["-i", str(inventory)]
    environment = os.environ | {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=limit_seconds, check=False
    )
    begin = done.stdout.find("{")
    report = json.loads(done.stdout[begin:]) if begin >= 0 else {"plays": [], "stats": {}}
    changes: dict[str, dict[str, Any]] = {}
    for play in report["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                if result.get("changed"):
                    changes.setdefault(task["task"]["name"], {})[host] = result
    return Run(done.returncode, report["stats"], changes, done.stdout + done.stderr)


def node(name: str, *command: str, check: bool = True) -> str:
    """Runs a command on a lab node as root and returns what it printed."""
    done = subprocess.run(
        [str(REPOSITORY / "scripts/lab"), "exec", name, "--", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, f"{name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def answers(url: str, key: str, pool: str) -> bool:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
    done = client.chat.completions.create(model=pool, messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    return bool(done.usage and done.usage.completion_tokens)


@pytest.fixture(scope="session")
def service() -> Service:
    inventory = load_inventory(REPOSITORY / "inventory" / "lab")
    hosts = inventory.hosts
    port = hosts["lb1"]["service_ports"]["api"]
    return Service(
        urls={name: f"http://{hosts[name]['ansible_host']}:{port}" for name in ("lb1", "lb2")},
        key=hosts["lb1"]["vault_demo_key"],
        pools=tuple(hosts["lb1"]["service_pools"]),
    )


@pytest.fixture
def edited_inventory(tmp_path: Path) -> Path:
    """A copy of the lab's inventory to edit; the repository's own stays as it is."""
    copy = tmp_path / "lab"
    shutil.copytree(REPOSITORY / "inventory" / "lab", copy)
    return copy
