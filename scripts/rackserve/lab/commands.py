"""Running other programs: always with a deadline, with an error text that says what was run and what came back."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rackserve.lab.errors import LabError

DEADLINE_SECONDS = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program that works for the lab gets to see: nothing of the caller's Python environment or locale."""
    proxies = {name: value for name, value in os.environ.items() if name.lower() in PROXY_VARIABLES}
    return {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root", "TERM": "dumb", **proxies, **(extra or {})}


PROXY_VARIABLES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


# The kernel kills the command when the thread that waits for it dies: after kill -9 of `up` nothing mounts or writes.
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")


def tied(arguments: Sequence[str]) -> list[str]:
    """The same command, killed with everything it started when this process dies, and its mounts kept to itself.

    A killed ``up`` must not leave a debootstrap behind that goes on writing.
    """
    namespace = ["unshare", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child=SIGKILL", "--"]
    return [*MORTAL, *namespace, *arguments]


def run(
    arguments: Sequence[str | Path],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    stdin: str | None = None,
    accept: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run one program to its end and return what it said.

    Raises LabError when it is missing, takes longer than the deadline or exits with a code that is not accepted.
    """
    command = [str(argument) for argument in arguments]
    shown = " ".join(command)
    try:
        done = subprocess.run(
            [*MORTAL, *command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_seconds,
            env=clean_environment(),
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"`{shown}` cannot run: {MORTAL[0]} is not installed. Run scripts/bootstrap.") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{shown}` took longer than {deadline_seconds:g} s.") from None
    if done.returncode not in accept:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise LabError(f"`{shown}` failed with code {done.returncode}: {said}")
    return done


def command_in(arguments: Sequence[str]) -> list[str]:
    """The command in what follows a node's name; a `--` may stand between."""
    return list(arguments[1:] if arguments[:1] == ["--"] else arguments)


def become(command: Sequence[str]) -> NoReturn:
    """Replace this process, so that signals, terminal and exit code are the command's own."""
    os.execvp(command[0], list(command))
