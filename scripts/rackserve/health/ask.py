"""One HTTP request to an engine on this node, on a connection of its own.

By hand: a full client would take half of the memory and most of the processor time that the probe may have.
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
ANSWER_BYTES_AT_MOST = 16 * 2**20
_HOST = "127.0.0.1"


class Refused(Exception):
    """Nobody listens on the port."""


class Broken(Exception):
    """The connection ended before the answer, or the answer is no HTTP."""


@dataclass(frozen=True)
class Answer:
    """Status and whole body."""

    status: int
    body: bytes


async def get(port: int, path: str, key: str = "") -> Answer:
    """Raises Refused or Broken. Waits for ever: the caller has the deadline."""
    return await _exchange(port, f"GET {path} HTTP/1.1\r\n{_headers(key)}\r\n".encode())


async def post(port: int, path: str, body: object, key: str = "") -> Answer:
    """As get, with a JSON body."""
    text = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\n{_headers(key)}content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    )
    return await _exchange(port, head.encode() + text)


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; raises Broken when it takes longer. wait_for raises another error on each Python."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(seconds, 0.0))
        if not done:
            raise Broken(f"no answer within {seconds:.1f} s")
        return task.result()
    finally:
        task.cancel()


def _headers(key: str) -> str:
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    return f"host: engine\r\nconnection: close\r\n{authorization}"


async def _exchange(port: int, request: bytes) -> Answer:
    try:
        reader, writer = await asyncio.open_connection(_HOST, port, limit=2**20)
    except ConnectionRefusedError as error:
        raise Refused from error
    except OSError as error:
        raise Broken(str(error)) from error
    try:
        writer.write(request)
        received = await _whole(reader)
    except OSError as error:
        raise Broken(str(error)) from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return _parsed(received)


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """Until the other side closes, which `connection: close` asks for."""
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(2**18):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_AT_MOST:
            raise Broken(f"the answer is longer than {ANSWER_BYTES_AT_MOST} bytes")
    return b"".join(parts)


def _parsed(received: bytes) -> Answer:
    head, gap, body = received.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split()
    if not gap or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise Broken("the connection ended before an answer" if not received else "the answer is not HTTP")
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if headers.get(b"transfer-encoding") == b"chunked":
        body = _joined(body)
    elif len(body) < int(headers.get(b"content-length", b"0")):
        raise Broken("the connection ended within the answer")
    return Answer(int(words[1]), body)


def _joined(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].partition(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0 or end + 2 + size > len(body):
            raise Broken("the connection ended within the answer")
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
