"""What drills do to the nodes of the rack lab, and what its balancers see. Everything here is undone by its counterpart."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackserve.definition.load import load_inventory
from rackserve.fleet.replies import ServerState, server_states
from rackserve.lab import nodes
from rackserve.lab.network import host_interface
from rackserve.lab.settings import settings_from

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "inventory" / "lab"
BALANCERS = ("lb1", "lb2")
# A drill cuts what comes from a node, what goes to it, or both.
CUT = "rackserve_drill"


@dataclass(frozen=True)
class Rack:
    """The lab as its inventory says."""

    hosts: dict[str, dict[str, Any]]
    plan: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.hosts["lb1"]["vault_demo_key"])

    @property
    def balancers(self) -> list[tuple[str, int]]:
        return [(str(self.hosts[name]["ansible_host"]), self.plan["ports"]["api"]) for name in BALANCERS]

    @property
    def address(self) -> tuple[str, int]:
        return str(self.plan["virtual_address"]["address"]), self.plan["ports"]["api"]


def rack() -> Rack:
    inventory = load_inventory(LAB)
    return Rack(dict(inventory.hosts), dict(inventory.plan))


def leader(name: str) -> int:
    return nodes.leader_of(settings_from(), name)


def on(name: str, *command: str, check: bool = True, seconds: float = 60, send: str = "") -> str:
    """Runs a command on a node as root, whatever its network is like; returns what it printed."""
    inside = nodes.inside(leader(name), *command)
    done = subprocess.run(inside, input=send, capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, f"{name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def lab(*arguments: str) -> None:
    command = [str(REPOSITORY / "scripts/lab"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"scripts/lab {' '.join(arguments)}: {done.stderr}"


def playbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)


def power_off(name: str) -> None:
    """Like a pulled plug: the first process of the node dies, and the kernel ends all others."""
    os.kill(leader(name), signal.SIGKILL)


@contextmanager
def cut_off(*names: str, directions: Sequence[str] = ("from", "to")) -> Iterator[None]:
    """Drops every packet on the host's end of the nodes' cables. Sessions stay as they are, as with a pulled cable."""
    hooks = {"from": "ingress", "to": "egress"}
    for name in names:
        interface = host_interface(leader(name))
        chains = "".join(
            f"chain {way} {{ type filter hook {hooks[way]} device {interface} priority 0; policy drop; }}\n"
            for way in directions
        )
        table = f"table netdev {CUT}_{name} {{\n{chains}}}\n"
        subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True, timeout=20)
    try:
        yield
    finally:
        for name in names:
            subprocess.run(["nft", "delete", "table", "netdev", f"{CUT}_{name}"], check=True, timeout=20)


@contextmanager
def full_disk(name: str) -> Iterator[None]:
    """Takes every free block of the node's own disk."""
    on(name, "sh", "-c", "dd if=/dev/zero of=/var/tmp/drill bs=1M 2>/dev/null; dd if=/dev/zero of=/var/tmp/drill2 bs=4k 2>/dev/null; df --output=avail / | tail -1")  # fmt: skip  # noqa: E501
    try:
        yield
    finally:
        on(name, "rm", "-f", "/var/tmp/drill", "/var/tmp/drill2")


def states(name: str) -> list[ServerState]:
    """What the balancer's HAProxy holds of its servers, asked at its own socket in the node."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(5)
        asked.connect(f"/proc/{leader(name)}/root/run/haproxy/admin.sock")
        asked.sendall(b"show stat -1 4 -1\n")
        asked.shutdown(socket.SHUT_WR)
        reply = b""
        while piece := asked.recv(65536):
            reply += piece
    return server_states(reply.decode())


def up(engine: str, balancers: Sequence[str] = BALANCERS) -> bool:
    """In service on every balancer, with all its slots."""
    try:
        found = [one for name in balancers for one in states(name) if one.server == engine]
    except OSError:
        return False
    stable = [one.status for one in found if one.backend.endswith("-stable")]
    return len(stable) == len(balancers) and all(status.startswith("UP") for status in stable)


def wait(check: Callable[[], object], what: str, seconds: float) -> float:
    """Seconds until it held; an error when it took longer."""
    begin = time.monotonic()
    while not check():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - begin
