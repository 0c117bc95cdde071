"""How long an engine's processes waited for a processor, from files as the kernel has them."""

from pathlib import Path

import pytest
from rackserve.health.processors import Processors, group_of

UNIT = "vllm@small-g1.service"


def process(node: Path, pid: int, name: str, waited: str) -> None:
    folder = node / "proc" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "schedstat").write_text(f"32786830420 {waited} 108320\n")


@pytest.fixture(params=["", "systemd", "unified"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    group = tmp_path / "cgroup" / request.param / "system.slice/system-vllm.slice" / UNIT
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("890\n911\n922\n")
    process(tmp_path, 890, "python", "79000000000")
    process(tmp_path, 911, "VLLM::EngineCor", "1500000000")
    process(tmp_path, 922, "VLLM::Worker", "2000000000")
    return tmp_path


def test_the_core_and_its_workers_are_counted_and_the_api_server_is_not(node: Path) -> None:
    processors = Processors(UNIT, node / "cgroup", node / "proc")
    assert processors.waited() == {"911": 1.5, "922": 2.0}
    process(node, 911, "VLLM::EngineCor", "4500000000")
    assert processors.waited() == {"911": 4.5, "922": 2.0}


def test_after_a_restart_other_processes_are_counted(node: Path) -> None:
    processors = Processors(UNIT, node / "cgroup", node / "proc")
    processors.waited()
    group = group_of(UNIT, node / "cgroup")
    assert group is not None
    process(node, 933, "VLLM::EngineCor", "500000000")
    group.write_text("930\n933\n")
    process(node, 930, "python", "0")
    assert processors.waited() == {"933": 0.5}


def test_what_cannot_be_read_forgives_nothing(node: Path) -> None:
    (node / "proc/922/schedstat").unlink()
    assert Processors(UNIT, node / "cgroup", node / "proc").waited() == {}
    assert Processors("vllm@other.service", node / "cgroup", node / "proc").waited() == {}
