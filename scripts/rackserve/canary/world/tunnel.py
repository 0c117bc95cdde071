"""A way from here to an address that only a balancer reaches, through the ssh that leads to it: no port is opened anywhere."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rackserve.fleet.errors import UnreachableError, first_line
from rackserve.fleet.ssh import CommandHost, Host

OPEN_SECONDS = 10.0
_LOOK_SECONDS = 0.05
# Not through the connection that calls share: it would keep the way open after its end.
_OWN = ("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes", "-N")


@contextmanager
def through(host: Host, address: str, port: int) -> Iterator[tuple[str, int]]:
    """An address and a port here that lead there. Raises UnreachableError."""
    if not isinstance(host, CommandHost) or host.command[0] != "ssh":
        # The balancer is this machine.
        yield address, port
        return
    own = _free_port()
    # Up to the target: what follows is the program that calls run there.
    options = host.command[1 : host.command.index("--") + 2]
    there = f"[{address}]" if ":" in address else address
    command = ["ssh", *_OWN, "-L", f"127.0.0.1:{own}:{there}:{port}", *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait(process, host, own)
        yield "127.0.0.1", own
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", host: CommandHost, port: int) -> None:
    ends = time.monotonic() + OPEN_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            said = process.stderr.read().decode(errors="replace") if process.stderr else ""
            raise UnreachableError(host.address, "a way through ssh", first_line(said))
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise UnreachableError(host.address, "a way through ssh", f"not open within {OPEN_SECONDS:g} s")
