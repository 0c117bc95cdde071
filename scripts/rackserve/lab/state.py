"""What the lab writes down: one record per finished node, and who works on the lab right now.

A record is written once the node's disk is complete, so "record present" means "can be booted as it stands".
Whether the node runs is asked of the kernel (``cgroups``), never of a record.
"""

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rackserve.lab.errors import LabError
from rackserve.lab.inventory import NodeSpec
from rackserve.lab.settings import Settings


@dataclass(frozen=True)
class NodeRecord:
    spec: NodeSpec
    inventory: str
    base: str
    host_key: str


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Readers see the old text or the new one, never a part."""
    candidate = path.with_name(f".{path.name}.{os.getpid()}")
    candidate.write_text(text)
    candidate.chmod(mode)
    candidate.rename(path)


def record_path(settings: Settings, node: str) -> Path:
    return settings.node_directory(node) / "node.json"


def save_record(settings: Settings, record: NodeRecord) -> None:
    write_atomically(record_path(settings, record.spec.name), json.dumps(asdict(record), indent=2) + "\n")


def load_records(settings: Settings) -> dict[str, NodeRecord]:
    """Every complete node by name."""
    records = {}
    for path in sorted((settings.state / "nodes").glob("*/node.json")):
        try:
            data = json.loads(path.read_text())
            records[path.parent.name] = NodeRecord(NodeSpec(**data.pop("spec")), **data)
        except FileNotFoundError:  # a `down` beside us took it
            continue
        except (ValueError, TypeError, KeyError) as error:
            raise LabError(
                f"{path} is damaged ({error}). Remove the lab with `scripts/lab down` and start it again."
            ) from None
    return records


def node_directories(settings: Settings) -> set[str]:
    """Every node that has a directory, complete or not."""
    nodes = settings.state / "nodes"
    return {entry.name for entry in nodes.iterdir() if entry.is_dir()} if nodes.is_dir() else set()


def write_known_hosts(settings: Settings) -> None:
    records = load_records(settings).values()
    lines = [f"{record.spec.address},{record.spec.name} {record.host_key}\n" for record in records]
    write_atomically(settings.state / "ssh" / "known_hosts", "".join(lines))


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return "another command"
    return f"`{holder['command']}` (process {holder['pid']}, since {holder['since']})"


@contextmanager
def exclusive(directory: Path, say: Callable[[str], None], *, deadline_seconds: float = 1800) -> Iterator[None]:
    """Hold ``directory``: one command at a time changes a lab, or a cache. Others wait and say for whom."""
    path = directory / "lock"
    deadline = time.monotonic() + deadline_seconds
    told = False
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed the directory: then this is a lock on a file that is gone.
            if path.exists() and os.stat(path).st_ino == os.fstat(handle).st_ino:
                break
        except BlockingIOError:
            if not told:
                say(f"waiting for {_holder(path)} to finish with {directory}")
                told = True
            if time.monotonic() > deadline:
                os.close(handle)
                raise LabError(f"{directory} is still held by {_holder(path)} after {deadline_seconds:g} s.") from None
            time.sleep(0.2)
        except FileNotFoundError:
            pass
        os.close(handle)
    holder = {"pid": os.getpid(), "since": time.strftime("%H:%M:%S"), "command": " ".join(["lab", *sys.argv[1:]])}
    os.truncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)
    try:
        yield
    finally:
        os.truncate(handle, 0)
        # Whoever only asked, or was refused, leaves nothing.
        if path.exists() and [entry.name for entry in directory.iterdir()] == ["lock"]:
            path.unlink()
            directory.rmdir()
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a directory of ours. Refuses while something is mounted below it: that would delete what is behind."""
    mounted = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [place for place in mounted if Path(place).is_relative_to(path)]
    if inside:
        raise LabError(f"{path} is not removed: {inside[0]} is still mounted.")
    if path.exists():
        shutil.rmtree(path)
