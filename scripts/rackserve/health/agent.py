"""HAProxy's agent-check: it connects, sends an engine's name and reads one line.

Only up and down are ever said. `ready`, `drain` and `maint` would cancel what an operator has set, and a weight in percent does not
reach the backends that track this server. Where nothing is known nothing is said, and HAProxy keeps what it has.
"""

import asyncio
import contextlib
from collections.abc import Callable

from rackserve.health.ask import Broken, within

Said = tuple[bool | None, str]
_LINE_SECONDS = 2.0
_REASON_CHARACTERS = 100


def answer(said: Said | None) -> bytes:
    """The line for HAProxy; empty where there is nothing to say."""
    if said is None or said[0] is None:
        return b""
    if said[0]:
        return b"up\n"
    words = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in said[1])
    return f"down #{words[:_REASON_CHARACTERS]}\n".encode()


class Agent:
    """`said` tells what holds for an engine, None for one that is not known."""

    def __init__(self, said: Callable[[str], Said | None]) -> None:
        self._said = said
        self._server: asyncio.Server | None = None

    async def open(self, address: str, port: int) -> int:
        """The port that it listens on. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, address, port, limit=256, backlog=256)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, Broken):
            line = await within(_LINE_SECONDS, reader.readline())
            writer.write(answer(self._said(line.decode("ascii", "replace").strip())))
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
