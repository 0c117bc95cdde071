"""A host over OpenSSH, one connection for many calls. Programs and what they work on travel on standard input,
so that neither shows in a process list."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rackserve.fleet.errors import NonsenseError, RefusedError, TimedOutError, UnreachableError

_REMOTE = Path(__file__).parent / "remote"
# A shared connection to a host that went away looks alive until somebody asks: then it is given up after two of these.
_ALIVE_SECONDS = 3
# What ssh itself exits with when there is no way to the host.
_NO_WAY = 255
# Two calls at the same time may both want to open the connection that is to be shared; the second one does without.
_CHATTER = ("ControlSocket ", "mux_client_")


class Host(Protocol):
    """A place where one of the programs in `remote/` runs with root's rights and answers with JSON."""

    @property
    def name(self) -> str: ...

    def call(self, program: str, argument: Any, deadline_seconds: float) -> Any: ...


@dataclass(frozen=True)
class CommandHost:
    """Runs the program through a command that takes Python on its standard input."""

    name: str
    address: str
    command: tuple[str, ...]

    def call(self, program: str, argument: Any, deadline_seconds: float) -> Any:
        text = (_REMOTE / f"{program}.py").read_text()
        # A string literal of JSON is one of Python, so any argument fits into the program's last line.
        source = f"{text}\nanswer(json.loads({json.dumps(json.dumps(argument))}))\n"
        try:
            done = subprocess.run(
                [*self.command],
                input=source,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=deadline_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimedOutError(self.address, program, f"nothing within {deadline_seconds:g} s") from None
        except OSError as error:
            raise UnreachableError(self.address, program, f"{self.command[0]}: {error.strerror}") from error
        if done.returncode == _NO_WAY:
            raise UnreachableError(
                self.address, program, _reason(done.stderr), "Is the host up, and does ssh let you in?"
            )
        if done.returncode != 0:
            raise RefusedError(self.address, program, _reason(done.stderr) or done.stdout or f"exit {done.returncode}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise NonsenseError(self.address, program, done.stdout or "an empty answer") from None


def _reason(text: str) -> str:
    """Of a Python traceback the last line says what happened. What ssh says about its shared connection is no reason."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(_CHATTER)]
    return lines[-1] if lines and lines[0].startswith("Traceback") else "\n".join(lines)


def shared_connection() -> list[str]:
    """Options of ssh by which calls within a minute share one connection; none where the home directory is read-only."""
    folder = Path.home() / ".ssh"
    try:
        # ssh makes it only once it has a host key to remember, and does not start without it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return []
    return ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={folder}/rackserve-%C"]


def host_of(name: str, variables: Mapping[str, Any], connect_seconds: int = 5) -> CommandHost:
    """The host as Ansible would reach it: the same user, key, port and arguments."""
    python = ["python3", "-"]
    if variables.get("ansible_connection") == "local":
        return CommandHost(name, name, (sys.executable, "-"))
    user = variables.get("ansible_user")
    remote = python if user == "root" or not variables.get("ansible_become", True) else ["sudo", "-n", *python]
    address = str(variables.get("ansible_host", name))
    command = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={connect_seconds}"]
    command += ["-o", f"ServerAliveInterval={_ALIVE_SECONDS}", "-o", "ServerAliveCountMax=2"]
    command += shared_connection()
    command += _words(variables, "ansible_ssh_common_args", "ansible_ssh_extra_args")
    if key := variables.get("ansible_ssh_private_key_file"):
        command += ["-i", str(key)]
    if port := variables.get("ansible_port"):
        command += ["-p", str(port)]
    target = f"{user}@{address}" if user else address
    return CommandHost(name, address, (*command, "--", target, shlex.join(remote)))


def _words(variables: Mapping[str, Any], *names: str) -> Sequence[str]:
    return [word for name in names for word in shlex.split(str(variables.get(name) or ""))]
