"""playbooks/release.yml for one engine, beside the controller's loop. It outlives its controller, and the next one waits for it."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rackserve.environment import REPOSITORY
from rackserve.canary.run.world import DONE, Ended, Outcome
from rackserve.canary.world.site import Access

BOOK = "playbooks/release.yml"
# A model may have to be downloaded; a start may fail, and the release from before is started again then.
INSTALL_SECONDS, START_SECONDS = 4 * 3600.0, 3600.0
# Of ansible-playbook: some host could not be reached.
_UNREACHABLE = 4
_FATAL = re.compile(r"^(fatal|failed): ", re.MULTILINE)
_MESSAGE = re.compile(r"^\s*msg: ?[|>]?[-+]?\d*\s*(?P<text>(?:.*\n)(?:(?: {6,}.*)?\n)*)", re.MULTILINE)
_LONGEST = 600

Start = Callable[[list[str], int], "subprocess.Popen[str]"]


class Busy(Exception):
    """A playbook of this pool is on its way."""


def free(lock: Path) -> bool:
    """No playbook of this pool is on its way on this machine."""
    try:
        handle = _locked(lock)
    except Busy:
        return False
    os.close(handle)
    return True


def _locked(lock: Path) -> int:
    """Raises Busy. Who has the open file has the lock: also a child that goes on without its parent."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Busy from None
    return handle


def command(access: Access, engine: str, release: str, start: bool) -> list[str]:
    """As an operator would type it."""
    given = {"release_engine": engine, "release_name": release, "release_start": start}
    words = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(access.inventory.absolute())]
    for one in access.vault_ids:
        words += ["--vault-id", one]
    for file in access.vault_files:
        words += ["--vault-password-file", str(file.absolute())]
    return [*words, "--extra-vars", json.dumps(given), str(REPOSITORY / BOOK)]


def started(words: list[str], handle: int) -> "subprocess.Popen[str]":
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    return subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(handle,),
        start_new_session=True,
    )


def play(lock: Path, words: list[str], seconds: float, begin: Start = started) -> Outcome:
    """To its end. A task that fails is the release's or the engine's fault; a node that cannot be reached may come back."""
    try:
        handle = _locked(lock)
    except Busy:
        return Outcome(Ended.UNDONE, "another playbook of this pool is on its way")
    try:
        process = begin(words, handle)
    except OSError as error:
        return Outcome(Ended.FAILED, f"{words[0]} cannot be run: {error.strerror}")
    finally:
        os.close(handle)
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return Outcome(Ended.FAILED, f"{BOOK}: not within {seconds:g} s")
    if process.returncode == 0:
        return DONE
    kind = Ended.UNDONE if process.returncode == _UNREACHABLE else Ended.FAILED
    return Outcome(kind, f"{BOOK} failed: {why(said)}")


def why(said: str) -> str:
    """The message of the first task that failed, else the last line."""
    begin = _FATAL.search(said)
    found = _MESSAGE.search(said, begin.start()) if begin else None
    if found is None:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return (begin and said[begin.start() :].splitlines()[0][:_LONGEST]) or (
            lines[-1] if lines else "it said nothing"
        )
    return " ".join(found["text"].split())[:_LONGEST]
