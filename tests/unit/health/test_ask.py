"""The small HTTP client, against bytes as engines send them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from rackserve.health import ask
from unit.health.engine import chunked, whole


def asked(received: bytes, work: str = "get") -> ask.Answer:
    """The answer of a server that sends these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(received)
        writer.close()

    async def talk() -> ask.Answer:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        question: Coroutine[Any, Any, ask.Answer] = ask.get(port, "/") if work == "get" else ask.post(port, "/", {})
        try:
            return await ask.within(5, question)
        finally:
            server.close()

    return asyncio.run(talk())


@pytest.mark.parametrize("work", ["get", "post"])
def test_an_answer_of_known_length_and_one_in_pieces(work: str) -> None:
    assert asked(whole(503, {"a": 1}), work) == ask.Answer(503, b'{"a": 1}')
    assert asked(chunked(b"0123456789"), work) == ask.Answer(200, b"0123456789")


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"\x00\x01 no HTTP\r\n\r\n",
        whole(200, {"a": 1})[:-1],
        chunked(b"0123456789")[:-9],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nmany\r\n",
    ],
)
def test_half_an_answer_is_none(received: bytes) -> None:
    with pytest.raises(ask.Broken):
        asked(received)


def test_a_port_that_nobody_listens_on_is_told_from_a_broken_connection() -> None:
    async def talk() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(ask.Refused):
            await ask.get(port, "/")

    asyncio.run(talk())


def test_what_takes_too_long_is_given_up() -> None:
    with pytest.raises(ask.Broken, match=r"no answer within 0\.1 s"):
        asyncio.run(ask.within(0.1, asyncio.sleep(30)))
