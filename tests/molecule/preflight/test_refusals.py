"""Broken nodes, one fault at a time and all at once: each message says what to do, and nothing is changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

HERE = Path(__file__).resolve().parent
INVENTORY = HERE.parent / "inventory/hosts.yml"
# What an installation would touch: configuration, packages, units, users' homes, our directories. A file's change time moves with
# its content, owner and mode, and cannot be set back.
FINGERPRINT = """
(find /etc /opt /usr/local /home /var/lib/dpkg -xdev -type f -printf '%p %s %C@ %m %U:%G\\n'
 systemctl list-unit-files --no-legend; ls -A /tmp /var/tmp /root) | sort | sha256sum
"""


@cache
def node(name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}")


@contextmanager
def port_taken() -> Iterator[None]:
    host = node("m13")
    host.check_output("systemd-run --unit=molecule-taken --collect python3 -m http.server 8999")
    # The unit is started before Python listens.
    host.check_output(
        'timeout 20 sh -c \'until python3 -c "import socket; socket.create_connection((\\"127.0.0.1\\", 8999))"; '
        "do sleep 0.1; done' 2>/dev/null"
    )
    try:
        yield
    finally:
        host.check_output("systemctl stop molecule-taken.service")


@contextmanager
def disk_full() -> Iterator[None]:
    """Leaves less than half a GiB on the node's own layer, as a forgotten core dump would."""
    host = node("m12")
    free = int(host.check_output("df --block-size=1 --output=avail / | tail --lines 1"))
    host.check_output("fallocate --length %s /var/tmp/fill", str(free - 400 * 2**20))
    try:
        yield
    finally:
        host.check_output("rm /var/tmp/fill")


@dataclass(frozen=True)
class Fault:
    """One way to be broken: on which node, how, and what preflight has to say about it."""

    host: str
    says: list[str]
    variables: dict[str, Any] = field(default_factory=dict)
    make: Callable[[], AbstractContextManager[None]] = nullcontext


FAULTS = {
    "wrong distribution for a balancer": Fault(
        "m12",
        [
            "haproxy: found HAProxy 2.6",
            "on Debian GNU/Linux 12",
            "HAProxy 2.8 or newer on a balancer",
            "use Debian 13 or Ubuntu 24.04",
            "bookworm-backports",
        ],
        {"preflight_balancer": True},
    ),
    "unsupported distribution": Fault(
        "m12",
        [
            "os: found Debian GNU/Linux 12 (bookworm) (debian-12)",
            "wanted one of debian-13, ubuntu-24.04",
            "take it out of the inventory",
        ],
        {"preflight_supported_os": ["debian-13", "ubuntu-24.04"]},
    ),
    "port taken by a stranger": Fault(
        "m13",
        [
            "port 8999/tcp: found taken by python3 (pid ",
            "molecule-taken.service)",
            "wanted free for engine small",
            "systemctl disable --now molecule-taken.service",
        ],
        {"preflight_listeners": [{"name": "ssh", "port": 22}, {"name": "engine small", "port": 8999}]},
        port_taken,
    ),
    "disk full": Fault(
        "m12",
        ["disk /srv/rackserve: found 0.4 GiB free", "wanted 2 GiB free for the first installation", "free space on /"],
        {"preflight_disks": [{"path": "/srv/rackserve", "free_gib": 2}]},
        disk_full,
    ),
    "clock an hour ahead": Fault(
        "m13",
        ["clock: found 36", "s ahead of this machine", "at most 5 s of difference", "timedatectl"],
        {"ansible_python_interpreter": "/usr/local/bin/python3-hour-ahead"},
    ),
    "no ssh": Fault(
        "m13",
        ["ssh: found no ssh session as rackadmin at 198.18.0.99", "try `ssh rackadmin@198.18.0.99`", "ansible_host"],
        {"ansible_host": "198.18.0.99", "ansible_ssh_retries": 0, "ansible_ssh_timeout": 5},
    ),
    "wrong key": Fault(
        "m13",
        ["ssh: found no ssh session as nobody-here at 198.18.0.42", "Permission denied"],
        {"ansible_user": "nobody-here"},
    ),
    "no sudo": Fault(
        "m13",
        ["sudo: found nosudo cannot become root", "NOPASSWD:ALL", "/etc/sudoers.d/nosudo"],
        {"ansible_user": "nosudo"},
    ),
    "no Python": Fault(
        "m13",
        ["python: found no usable Python on the host", "apt-get install python3"],
        {"ansible_python_interpreter": "/usr/bin/python9"},
    ),
    "a GPU too few": Fault(
        "m13",
        ["gpus: found 0 NVIDIA GPUs", "wanted 2", "fell off the bus", "node_gpus of this host in the inventory to 0"],
        {"preflight_expected_gpus": 2},
    ),
    "too little memory": Fault(
        "m13", ["memory: found ", "wanted 4096 GiB", "node_memory_gib"], {"preflight_min_memory_gib": 4096}
    ),
    "too few open files": Fault(
        "m13",
        ["open files: found services may open ", "wanted 99999999", "fs.nr_open"],
        {"preflight_min_open_files": 99999999},
    ),
}


def playbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ansible-playbook")
    assert program, "ansible-playbook is not on the PATH"
    return subprocess.run(
        [program, str(HERE / "refuse.yml"), *arguments],
        cwd=HERE.parents[2],
        env={**os.environ, "ANSIBLE_CONFIG": str(HERE.parents[2] / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def inventory(variables: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    """The shared inventory with changes for some hosts."""
    content = yaml.safe_load(INVENTORY.read_text())
    for host, changes in variables.items():
        content["all"]["hosts"].setdefault(host, {}).update(changes)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hosts.yml"
        path.write_text(yaml.safe_dump(content))
        yield ["-i", str(path)]


def recap(output: str) -> dict[str, dict[str, int]]:
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    return {host: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in lines}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_node_is_refused_with_what_to_do_and_left_as_it_was(name: str) -> None:
    fault = FAULTS[name]
    with fault.make(), inventory({fault.host: fault.variables}) as where:
        before = node(fault.host).check_output(FINGERPRINT)
        answer = playbook(*where, "--limit", fault.host)
        after = node(fault.host).check_output(FINGERPRINT)
    assert answer.returncode != 0, answer.stdout
    assert f"{fault.host}: 1 problem found before anything was changed." in answer.stdout, answer.stdout + answer.stderr
    missing = [words for words in fault.says if words not in answer.stdout]
    assert not missing, f"not said: {missing}\n{answer.stdout}"
    assert recap(answer.stdout)[fault.host]["changed"] == 0
    assert "Traceback" not in answer.stdout + answer.stderr
    assert before == after, "preflight changed the node"


def test_all_hosts_are_judged_before_the_play_stops_and_no_host_is_touched() -> None:
    faults = {
        "m12": {"preflight_balancer": True, "preflight_expected_gpus": 8},
        "m13": {"ansible_user": "nosudo"},
        "gone": {"ansible_host": "198.18.0.99", "ansible_ssh_retries": 0, "ansible_ssh_timeout": 5},
    }
    before = [node(name).check_output(FINGERPRINT) for name in ("m12", "m13")]
    with inventory(faults) as where:
        answer = playbook(*where)
    assert answer.returncode != 0
    assert "m12: 2 problems found" in answer.stdout, answer.stdout
    assert "m13: 1 problem found" in answer.stdout
    assert "gone: 1 problem found" in answer.stdout
    assert "Leave a trace" not in answer.stdout, "the play after preflight has started"
    assert {host: counts["changed"] for host, counts in recap(answer.stdout).items()} == {"m12": 0, "m13": 0, "gone": 0}
    assert [node(name).check_output(FINGERPRINT) for name in ("m12", "m13")] == before


def test_one_bad_host_stops_the_good_one_too() -> None:
    with inventory({"m12": {"preflight_expected_gpus": 8}}) as where:
        answer = playbook(*where)
    assert answer.returncode != 0
    assert "m12: 1 problem found" in answer.stdout, answer.stdout
    assert recap(answer.stdout)["m13"]["failed"] == 0
    assert not node("m13").file("/etc/molecule-changed").exists


@pytest.mark.parametrize("mode", [[], ["--check", "--diff"]])
def test_sound_nodes_pass_without_a_change(mode: list[str]) -> None:
    before = {name: node(name).check_output(FINGERPRINT) for name in ("m12", "m13")}
    with inventory({}) as where:
        answer = playbook(*where, *mode, "--skip-tags", "change")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert {name: node(name).check_output(FINGERPRINT) for name in ("m12", "m13")} == before
