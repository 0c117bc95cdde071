"""The backend's streams, in the bench node: 50 events each, written one by one. Standard library only.

GET /hold/N keeps a stream open after N events until the other side leaves, for counting memory per open stream.
"""

import asyncio
import contextlib
import sys

EVENTS = 50


def event(number: int, usage: bool) -> bytes:
    choice = '[{"index":0,"delta":{"content":"token "},"finish_reason":null}]'
    counted = f'{{"prompt_tokens":17,"completion_tokens":{number},"total_tokens":{17 + number}}}'
    text = (
        f'data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench",'
        f'"choices":{"[]" if usage else choice},"usage":{counted}}}\n\n'
    ).encode()
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = [event(number, usage=False) for number in range(1, EVENTS + 1)]
TAIL = event(EVENTS, usage=True) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            at = head.find(b"content-length:")
            body = await reader.readexactly(int(head[at + 15 : head.index(b"\r", at)])) if at >= 0 else b""
            writer.write(HEAD)
            for piece in STREAM:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if b'"hold":true' in body:
                await reader.read(1)
                break
            writer.write(TAIL)
            await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096, limit=2**22)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
