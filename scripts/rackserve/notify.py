"""What systemd is told (sd_notify): a datagram to the socket that it names. Nothing happens without systemd."""

import contextlib
import socket
from collections.abc import Mapping


class Notify:
    """Does not raise: a service goes on when its supervisor does not listen."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        # Half of the limit, as systemd's manual advises.
        self.every_seconds = int(limit) / 2_000_000 if limit.isdigit() and int(limit) > 0 else None
        self._last = 0.0

    def say(self, text: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)

    def alive(self, now: float) -> None:
        if self.every_seconds is not None and now - self._last >= self.every_seconds:
            self.say("WATCHDOG=1")
            self._last = now
