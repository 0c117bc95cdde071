"""One run for a pool. On this machine a lock of the kernel says whether a controller lives, and the journals whether a run is not
over; across machines the claim at the balancers does (World.claim)."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rackserve.canary.run.journal import Found, Journal, JournalError


class Taken(Exception):
    """Somebody else is at it: who, with what, since when, the run's id."""

    exit_code = 4


@dataclass(frozen=True)
class Standing:
    """A run that is not over."""

    directory: Path
    found: Found


def runs(root: Path, pool: str) -> list[Path]:
    """Directories of the pool's runs, the newest last: ids begin with the time. One without an entry has never done anything."""
    folder = root / pool
    return sorted(one for one in folder.iterdir() if any((one / "entries").glob("0*"))) if folder.is_dir() else []


def standing(root: Path, pool: str) -> Standing | None:
    """The pool's run that is not over. Raises JournalError when a journal cannot be read: it may be one."""
    for directory in reversed(runs(root, pool)):
        found = Journal(directory).read()
        if not found.record.over:
            return Standing(directory, found)
    return None


def free(root: Path, pool: str, shown: Callable[[float], str]) -> None:
    """That no run of the pool is unfinished here. Raises Taken, JournalError."""
    if (other := standing(root, pool)) is None:
        return
    plan, record = other.found.plan, other.found.record
    raise Taken(
        f"pool {pool} has a run already: {plan.run}, {plan.release} by {plan.by}, since {shown(plan.since)}, now "
        f"{record.state.value.replace('_', ' ')}. Wait for it, or scripts/canary resume|abort {plan.run}"
    )


@contextmanager
def alone(root: Path, pool: str, who: str) -> Iterator[None]:
    """Only this process drives a run of the pool on this machine; the kernel lets go when it dies. `who`: told to others. Raises
    Taken, JournalError."""
    path = root / pool / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(
            f"{path} cannot be made ({error.strerror or error}): make room there, or say where runs may be kept"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 400, 0).decode(errors="replace").strip() or "another process"
            raise Taken(f"pool {pool} is driven already on this machine: {holder}") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{who}, process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def living(root: Path, pool: str) -> bool:
    """A controller of the pool runs on this machine now, so an order will be read."""
    try:
        handle = os.open(root / pool / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)
