"""One control group per node: the kernel's own list of a node's processes.

Without it every node would share the caller's group, and the systemd of one node would see the units of another.
It answers "does this node run?" without a PID file that may lie: the group holds the node's processes and no other.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rackserve.lab.errors import LabError
from rackserve.lab.settings import Settings


def hierarchies(mountinfo: str) -> list[Path]:
    """Mount points of the hierarchies that systemd keeps its units in: its named v1 hierarchy and version 2."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(left.split(" ")[4]))
    return found


def lab_groups(settings: Settings) -> list[Path]:
    """The lab's directory in each hierarchy, whether it exists or not."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return [root / "rackserve-lab" / settings.bridge for root in hierarchies(mountinfo)]


def node_groups(settings: Settings, node: str) -> list[Path]:
    return [group / node for group in lab_groups(settings)]


def grouped_nodes(settings: Settings) -> set[str]:
    """Nodes that have a control group, also those that nothing else knows of."""
    return {
        entry.name for group in lab_groups(settings) if group.is_dir() for entry in group.iterdir() if entry.is_dir()
    }


@dataclass(frozen=True)
class Processes:
    """supervisor is systemd-nspawn itself, leader the node's PID 1; everything holds all of them."""

    supervisor: int | None
    leader: int | None
    everything: frozenset[int]


def _members(groups: list[Path]) -> Iterator[int]:
    for group in groups:
        for directory, _, _ in os.walk(group):
            try:
                text = (Path(directory) / "cgroup.procs").read_text()
            except OSError:  # the group went away, or is a threaded one whose processes are listed above it
                continue
            yield from (int(line) for line in text.split() if line != "0")


def _is_leader(pid: int) -> bool:
    """The first process of a process namespace has the number 1 in it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def _is_supervisor(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"systemd-nspawn")
    except OSError:
        return False


def processes(settings: Settings, node: str) -> Processes:
    pids = frozenset(_members(node_groups(settings, node)))
    leaders = [pid for pid in pids if _is_leader(pid)]
    # nspawn has a short-lived child with the same command line: the supervisor is the oldest of them.
    supervisors = sorted(pid for pid in pids if pid not in leaders and _is_supervisor(pid))
    return Processes(supervisors[0] if supervisors else None, min(leaders, default=None), pids)


def _signal(settings: Settings, node: str, pid: int, number: signal.Signals) -> None:
    """Signal pid if it is still a process of this node, safe against the number having been given to another."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in processes(settings, node).everything:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _wait_empty(settings: Settings, node: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while processes(settings, node).everything:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stop(settings: Settings, node: str, *, grace_seconds: float) -> None:
    """End every process of the node: an orderly power-off first, then by force. Returns when none is left."""
    found = processes(settings, node)
    if grace_seconds > 0 and found.supervisor and found.leader:
        # nspawn turns this into SIGRTMIN+3 for the node's PID 1: power off, in order.
        _signal(settings, node, found.supervisor, signal.SIGTERM)
        _wait_empty(settings, node, grace_seconds)
    deadline = time.monotonic() + 10
    while left := processes(settings, node).everything:
        for pid in left:
            _signal(settings, node, pid, signal.SIGKILL)
        if _wait_empty(settings, node, 0.5):
            break
        if time.monotonic() > deadline:
            raise LabError(
                f"{node}: processes {sorted(left)} do not die. Look at them with ps; a hung mount is likely."
            )
    remove(node_groups(settings, node))


def remove(groups: list[Path]) -> None:
    """Remove empty groups, deepest first. A group is busy for a moment after its last process ended."""
    deadline = time.monotonic() + 5
    for group in groups:
        for directory, _, _ in os.walk(group, topdown=False):
            while True:
                try:
                    Path(directory).rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise LabError(f"control group {directory} cannot be removed: {error.strerror}.") from None
                    time.sleep(0.02)
                else:
                    break


def create(settings: Settings, node: str) -> list[Path]:
    """Make the node's groups; whoever is written to the returned files joins them."""
    groups = node_groups(settings, node)
    if not groups:
        raise LabError(
            "no control group hierarchy of systemd is mounted below /sys/fs/cgroup: nspawn cannot boot a node."
        )
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    return [group / "cgroup.procs" for group in groups]


def remove_lab(settings: Settings) -> None:
    groups = lab_groups(settings)
    remove(groups)
    for group in groups:
        parent = group.parent
        # Another lab on this machine may live in the same parent.
        if parent.is_dir() and not any(entry.is_dir() for entry in parent.iterdir()):
            parent.rmdir()
