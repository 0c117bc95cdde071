"""A small vLLM, played: a page of metrics, one-token completions, and a hang on demand. For tests and by hand."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any

LABELS = '{engine="0",model_name="p"}'


class Engine:
    """In a thread of its own. hung: questions are taken and never answered, the page goes on as if nothing were."""

    def __init__(self) -> None:
        self.hung = False
        self.mute = False
        self.status = 200
        self.tokens = 0
        self.questions: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def __enter__(self) -> "Engine":
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def listen(self) -> None:
        self._call(self._listen())

    def refuse(self) -> None:
        """As if it were killed: nobody listens any more."""
        self._call(self._refuse())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=5)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        """Also of connections that came in this very moment, whose task has not begun."""
        for task in self._open.values():
            task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.ensure_future(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")), 0)
            body = await reader.readexactly(length)
            while self.mute or (self.hung and "/v1/" in head):
                await asyncio.sleep(0.02)
            writer.write(self._answer(head, body))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(self, head: str, body: bytes) -> bytes:
        if head.startswith("GET /metrics"):
            return chunked(self.page().encode())
        self.keys |= {line.partition(": ")[2] for line in head.splitlines() if line.startswith("authorization")}
        if head.startswith("GET /v1/models"):
            return whole(200, {"data": [{"id": "p", "max_model_len": 64}]})
        self.questions.append(json.loads(body))
        if self.status != 200:
            return whole(self.status, {"error": {"message": "made by the test"}})
        self.tokens += 1
        return whole(200, {"usage": {"completion_tokens": 1}})

    def page(self) -> str:
        return (
            f"# TYPE x counter\nprocess_start_time_seconds 5.0\nvllm:num_requests_running{LABELS} 0.0\n"
            f"vllm:prompt_tokens_total{LABELS} {self.tokens}.0\nvllm:generation_tokens_total{LABELS} {self.tokens}.0\n"
        )


def whole(status: int, answer: object) -> bytes:
    text = json.dumps(answer).encode()
    return f"HTTP/1.1 {status} Played\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text


def chunked(body: bytes) -> bytes:
    """As uvicorn answers with a page of unknown length."""
    middle = len(body) // 2
    parts = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (body[:middle], body[middle:]))
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
