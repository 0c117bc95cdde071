"""The socket to which HAProxy sends its lines: one datagram, one line."""

import contextlib
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from rackserve.traffic_log.line import LONGEST_LINE

FIRST_PASSED = 3


class SocketError(Exception):
    """There is no usable socket; says why and what to do."""


def passed(environment: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd hands over, if it does. Raises SocketError when it is no UNIX datagram socket."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or not environment.get("LISTEN_FDS", "0").isdigit():
        return None
    if int(environment.get("LISTEN_FDS", "0")) < 1:
        return None
    try:
        found = socket.socket(fileno=FIRST_PASSED)
    except OSError as error:
        raise SocketError(f"systemd handed over no socket: {error.strerror}. Start through the socket unit.") from error
    if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_DGRAM):
        raise SocketError("systemd handed over another kind of socket. The socket unit needs ListenDatagram=PATH.")
    found.setblocking(False)
    return found


def bound(path: Path) -> socket.socket:
    """Makes the socket itself. Raises SocketError; a socket that was left behind is replaced, anything else is not."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketError(f"{path} is there and is no socket. Remove it or name another path.")
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        made.close()
        raise SocketError(f"{path}: no socket can be made: {error.strerror}. The directory has to exist.") from error
    made.setblocking(False)
    return made


class Receiver:
    """Takes many datagrams at a time. A longer one than any line comes cut, one byte over LONGEST_LINE."""

    def __init__(self, source: socket.socket) -> None:
        self._socket = source
        self._buffer = bytearray(LONGEST_LINE + 1)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self, at_most: int) -> list[bytes]:
        """What is there now, without waiting. Raises OSError when the socket is gone."""
        lines = []
        for _ in range(at_most):
            try:
                size = self._socket.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                break
            lines.append(bytes(self._view[:size]))
        return lines
