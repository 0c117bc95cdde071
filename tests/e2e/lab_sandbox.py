"""A place for a lab of its own: other network, mounts and /run, so a test may compare everything and cut anything.

The lab that people use on this machine is neither seen nor touched from inside. Base images are shared (read-only).
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = str(REPOSITORY / "scripts" / "lab")
BRIDGE = "rslabtest"
BASES = Path("/var/cache/rackserve/bases")

# A network with a way out that leads nowhere, its own /sys (interfaces are listed there), its own /run.
_PRELUDE = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/groups
mount --rbind /sys/fs/cgroup /run/groups
mount -t sysfs sysfs /sys
mount --rbind /run/groups /sys/fs/cgroup
umount -R /run/groups
rmdir /run/groups
ip link set lo up
ip link add up0 type veth peer name up1
ip link set up1 up
ip address add 192.0.2.10/24 dev up0
ip link set up0 up
ip route add default via 192.0.2.1
echo 0 >/proc/sys/net/ipv4/ip_forward
echo ready
exec cat
"""

# Everything `up` could leave on a machine.
_TRACES = {
    "links": "ip -j link show | tr , '\\n' | grep -E 'ifname|link_type|master' || true",
    "addresses": "ip -4 -o address show",
    "routes": "ip -4 route show table all",
    "rules": "nft list ruleset",
    "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
    "mounts": "cut -d' ' -f5- /proc/self/mountinfo",
    "run": "find /run",
    "groups": f"find /sys/fs/cgroup -path '*rackserve-lab/{BRIDGE}*'",
}


@dataclass
class Sandbox:
    """One lab's environment and the process that keeps its namespaces alive."""

    directory: Path
    holder: subprocess.Popen[str]

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", "--", *command]

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "RACKSERVE_LAB_STATE": str(self.state),
            "RACKSERVE_LAB_CACHE": str(self.directory / "cache"),
            "RACKSERVE_LAB_BRIDGE": BRIDGE,
            "RACKSERVE_LAB_NETWORK": "198.19.0.0/24",
        }

    def run(self, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.enter(*command),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def shell(self, script: str) -> str:
        done = self.run("sh", "-c", script)
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    def lab(self, *arguments: str, status: int = 0, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        done = self.run(LAB, *arguments, seconds=seconds)
        assert done.returncode == status, f"lab {arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A lab command that goes on beside the test."""
        return subprocess.Popen(
            self.enter(LAB, *arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def inventory(self, **nodes: dict[str, Any]) -> str:
        """An inventory of these nodes; without any, one small Debian 12 node t1."""
        nodes = nodes or {"t1": {"ansible_host": "198.19.0.11", "lab_os": "debian-12", "lab_disk_gib": 1}}
        path = self.directory / "hosts.yml"
        path.write_text(json.dumps({"all": {"hosts": nodes}}))
        return str(path)

    def status(self) -> dict[str, dict[str, Any]]:
        return {node["name"]: node for node in json.loads(self.lab("status", "--json").stdout)["nodes"]}

    def traces(self) -> dict[str, str]:
        """What a lab could leave behind, to be compared before and after."""
        found = {name: self.shell(script) for name, script in _TRACES.items()}
        found["files"] = "\n".join(sorted(str(path) for path in self.directory.glob("state*")))
        own = str(self.directory)
        found["loop devices"] = "\n".join(line for line in _losetup() if own in line)
        found["processes"] = "\n".join(command for command in _command_lines() if own in command)
        return found

    def members(self, node: str = "t1") -> dict[str, int]:
        """The node's supervisor and PID 1 by the kernel's list: name of the program -> process."""
        found = {}
        for name, group in (("supervisor", "supervisor"), ("leader", "payload/init.scope")):
            for file in (directory / group / "cgroup.procs" for directory in groups(node)):
                if file.exists() and (pids := file.read_text().split()):
                    found[name] = int(pids[0])
        return found


def groups(node: str) -> list[Path]:
    """Where the node's control groups are while it runs: below the root, or below each hierarchy of version 1."""
    root = Path("/sys/fs/cgroup")
    return [path / "rackserve-lab" / BRIDGE / node for path in (root, *root.iterdir()) if path.is_dir()]


def _losetup() -> Sequence[str]:
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()


def _command_lines() -> list[str]:
    """Of every process but this one."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended
            continue
    return [line for line in lines if "nspawn" in line or "debootstrap" in line]


def open_sandbox(directory: Path) -> Sandbox:
    assert BASES.is_dir(), f"{BASES} is missing: run `scripts/lab up` once, it builds the base images"
    (directory / "cache").mkdir()
    (directory / "cache" / "bases").symlink_to(BASES)
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _PRELUDE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "ready\n":
        holder.communicate(timeout=10)
        raise AssertionError(f"the sandbox's namespaces could not be made: exit {holder.returncode}, see stderr above")
    return Sandbox(directory, holder)


def close_sandbox(sandbox: Sandbox) -> None:
    try:
        sandbox.lab("down")
    finally:
        sandbox.holder.communicate(timeout=10)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.002)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
