"""Each rule of preflight, on made-up facts: what passes, what is refused, and that the message says what to do."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rules = load("rackserve_preflight_rules", PLUGINS / "module_utils/rackserve_preflight.py")
action = load("rackserve_preflight_action", PLUGINS / "action/rackserve_preflight.py")

FACTS: dict[str, Any] = {
    "os": {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"},
    "architecture": "x86_64",
    "init": "systemd",
    "container": "",
    "time": {"synchronised": True, "service": "chrony.service"},
    "haproxy_candidate": "3.0.11-1+deb13u1",
    "disks": {"/opt/rackserve": {"free_bytes": 100 * 2**30, "mount": "/", "in_use": False}},
    "memory_bytes": 62 * 2**30,
    "gpus": 8,
    "open_files": 524288,
    "sockets": [],
}
WANT: dict[str, Any] = {
    "supported_os": ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"],
    "architectures": ["x86_64", "aarch64"],
    "balancer": True,
    "haproxy_minimum": "2.8",
    "disks": [{"path": "/opt/rackserve", "free_gib": 20.0, "reserve_gib": 1.0}],
    "listeners": [{"name": "engine a", "port": 8001, "protocol": "tcp"}],
    "own_units": ["vllm@*.service", "ssh.socket"],
    "min_memory_gib": 64.0,
    "expected_gpus": 8,
    "min_open_files": 8192,
    "time_sync": True,
}


def facts(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(FACTS), **changes}


def want(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(WANT), **changes}


def only(found: list[dict[str, str]]) -> dict[str, str]:
    assert len(found) == 1, found
    assert set(found[0]) == {"check", "found", "wanted", "remedy"}
    assert all(found[0].values()), "every part of a problem says something"
    return found[0]


def test_a_sound_node_has_no_problem() -> None:
    assert rules.judge(FACTS, WANT) == []


def test_all_problems_come_at_once_in_the_order_a_person_would_look() -> None:
    bad = facts(
        os={"id": "fedora", "version": "42", "name": "Fedora 42"},
        architecture="riscv64",
        init="sysvinit",
        haproxy_candidate="2.4.0",
        time={"synchronised": False, "service": "chrony.service"},
        memory_bytes=2**30,
        gpus=7,
        disks={"/opt/rackserve": {"free_bytes": 0, "mount": "/", "in_use": False}},
        open_files=1024,
        sockets=[{"port": 8001, "protocol": "tcp", "pid": 7, "process": "nginx", "unit": "nginx.service"}],
    )
    assert [problem["check"] for problem in rules.judge(bad, WANT)] == [
        "os",
        "architecture",
        "init",
        "haproxy",
        "time sync",
        "memory",
        "gpus",
        "disk /opt/rackserve",
        "open files",
        "port 8001/tcp",
    ]


def os_facts(distribution: str, version: str, candidate: str) -> dict[str, Any]:
    return facts(
        os={"id": distribution, "version": version, "name": f"{distribution} {version}"}, haproxy_candidate=candidate
    )


@pytest.mark.parametrize(
    ("distribution", "version", "candidate", "refused"),
    [
        ("debian", "12", "2.6.12-1+deb12u4", True),
        ("debian", "12", "", True),
        ("debian", "12", "2.9.7-1~bpo12+1", False),
        ("debian", "13", "", False),
        ("debian", "13", "3.0.11-1+deb13u1", False),
        ("ubuntu", "22.04", "2.4.24-0ubuntu0.22.04.2", True),
        ("ubuntu", "22.04", "1:2.8.5-1ppa1~jammy", False),
        ("ubuntu", "24.04", "2.8.5-1ubuntu3", False),
        ("ubuntu", "24.04", "2.10.0-1", False),
    ],
)
def test_a_balancer_needs_an_haproxy_that_its_package_sources_offer(
    distribution: str, version: str, candidate: str, refused: bool
) -> None:
    found = rules.judge(os_facts(distribution, version, candidate), WANT)
    assert bool(found) is refused
    if refused:
        assert "Debian 13 or Ubuntu 24.04" in only(found)["remedy"]
        assert "backports" in only(found)["remedy"]


def test_a_node_without_balancer_may_have_any_haproxy() -> None:
    assert rules.judge(os_facts("debian", "12", "2.6.12"), want(balancer=False)) == []


@pytest.mark.parametrize(
    ("container", "synchronised", "service", "time_sync", "refused"),
    [
        ("", False, "chrony.service", True, True),
        ("", False, "chrony.service", False, False),
        ("", False, "", True, False),
        ("systemd-nspawn", False, "chrony.service", True, False),
        ("", True, "systemd-timesyncd.service", True, False),
    ],
)
def test_a_time_service_that_runs_has_to_have_synchronised(
    container: str, synchronised: bool, service: str, time_sync: bool, refused: bool
) -> None:
    node = facts(container=container, time={"synchronised": synchronised, "service": service})
    assert bool(rules.judge(node, want(time_sync=time_sync))) is refused


@pytest.mark.parametrize(
    ("free_gib", "in_use", "refused"), [(19.9, False, True), (20, False, False), (1.1, True, False), (0.9, True, True)]
)
def test_an_installed_path_needs_its_reserve_only(free_gib: float, in_use: bool, refused: bool) -> None:
    node = facts(disks={"/opt/rackserve": {"free_bytes": int(free_gib * 2**30), "mount": "/data", "in_use": in_use}})
    found = rules.judge(node, WANT)
    assert bool(found) is refused
    if refused:
        assert f"{free_gib} GiB free (file system at /data)" in only(found)["found"]


@pytest.mark.parametrize(("gib", "refused"), [(62, False), (61, False), (60, True)])
def test_memory_may_miss_what_firmware_keeps(gib: int, refused: bool) -> None:
    assert bool(rules.judge(facts(memory_bytes=gib * 2**30), WANT)) is refused


def test_a_missing_gpu_is_refused_with_where_to_look() -> None:
    found = only(rules.judge(facts(gpus=7), WANT))
    assert found["found"] == "7 NVIDIA GPUs on the PCI bus"
    assert found["wanted"] == "8"
    assert "fell off the bus" in found["remedy"]


def test_a_gpu_more_than_declared_is_a_mistake_in_the_inventory() -> None:
    assert "node_gpus of this host in the inventory to 9" in only(rules.judge(facts(gpus=9), WANT))["remedy"]


def test_without_a_declared_number_any_number_of_gpus_passes() -> None:
    assert rules.judge(facts(gpus=3), want(expected_gpus=None)) == []


def socket(**changes: Any) -> dict[str, Any]:
    return {"port": 8001, "protocol": "tcp", "pid": 42, "process": "python3", "unit": "run-r1.service", **changes}


def test_a_taken_port_names_its_owner_and_its_listener() -> None:
    found = only(rules.judge(facts(sockets=[socket()]), WANT))
    assert found["check"] == "port 8001/tcp"
    assert found["found"] == "taken by python3 (pid 42, run-r1.service)"
    assert found["wanted"] == "free for engine a"
    assert "systemctl disable --now run-r1.service" in found["remedy"]


def test_a_taken_port_without_unit_can_only_be_killed() -> None:
    assert "`kill 42`" in only(rules.judge(facts(sockets=[socket(unit="")]), WANT))["remedy"]


def test_a_port_taken_on_two_addresses_by_one_process_is_one_problem() -> None:
    assert len(rules.judge(facts(sockets=[socket(), socket()]), WANT)) == 1


@pytest.mark.parametrize(
    "ours", [{"unit": "vllm@small-1.service"}, {"unit": "ssh.socket", "pid": 1}, {"protocol": "udp"}, {"port": 8002}]
)
def test_a_port_that_is_ours_or_another_one_passes(ours: dict[str, Any]) -> None:
    assert rules.judge(facts(sockets=[socket(**ours)]), WANT) == []


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.5, 0.5, None),
        (3.0, 4.0, None),
        (4.0, 60.0, None),
        (6.0, 7.0, "6 s ahead of this machine"),
        (-3600.0, -3599.0, "3599 s behind this machine"),
    ],
)
def test_a_clock_is_refused_only_when_the_slow_answer_cannot_explain_it(
    low: float, high: float, words: str | None
) -> None:
    found = action.clock(low, high, 5)
    assert bool(found) is (words is not None)
    if words:
        assert words in found[0]["found"]


@pytest.mark.parametrize(
    ("detail", "check", "remedy"),
    [
        ("sudo: a password is required", "sudo", "/etc/sudoers.d/deploy"),
        ("Missing sudo password", "sudo", "NOPASSWD"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "python", "apt-get install python3"),
        ("Segmentation fault", "module", "-vvv"),
    ],
)
def test_a_module_that_cannot_run_is_told_apart(detail: str, check: str, remedy: str) -> None:
    found = action.not_runnable("deploy", detail)
    assert found["check"] == check
    assert detail in found["found"]
    assert remedy in found["remedy"]


def test_the_message_names_the_host_and_every_problem_on_its_own_line() -> None:
    problems = rules.judge(facts(gpus=7, architecture="riscv64"), WANT)
    lines = action.message("gpu7", problems).splitlines()
    assert lines[0] == "gpu7: 2 problems found before anything was changed."
    assert [line.split(":")[0] for line in lines[1:]] == ["- architecture", "- gpus"]
    assert all("wanted" in line and "To do:" in line for line in lines[1:])
