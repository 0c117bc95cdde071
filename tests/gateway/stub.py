"""Programmable engines: small HTTP servers that answer like vLLM, with faults on demand.

What a request shall meet travels in its body under "stub", so that tests do not disturb each other:
  ttft, gap      seconds before the first token and between tokens
  tokens         how many
  gate           go on with tokens until the test opens the gate of that name (Stub.gates)
  text           each token of a stream is this text
  status         answer this status with an error body instead
  cut_after      close the connection after so many tokens
  silent_after   send nothing more after so many tokens, but stay connected
  fail_after     send an error event after so many tokens, as an engine does that failed within a stream, and end
  linger         seconds between the last event and the end of the body
  hang_up        close the connection without an answer
  nonsense       answer with bytes that are not HTTP

By hand, standard library only: python3 stub.py ADDRESS NAME=PORT ...
"""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nserver: uvicorn\r\n"
    b"x-vllm-internal: secret\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass
class Seen:
    """One request as it reached an engine."""

    engine: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    started: float
    ended: float | None = None
    # The other side went away before the answer was complete.
    abandoned: bool = False


@dataclass
class Engine:
    name: str
    port: int
    healthy: bool = True
    running: int = 0
    peak: int = 0
    seen: list[Seen] = field(default_factory=list)
    # A test's own answers: the JSON of one, or the data of each event of a stream; none: nothing is sent.
    script: "Callable[[Seen], list[Any]] | None" = None
    server: asyncio.Server | None = None
    # Names of models that it says it serves.
    serves: tuple[str, ...] = ()


class Gone(Exception):
    """The balancer closed its connection."""


class Stub:
    """All engines on one address, in a thread of their own."""

    def __init__(self, address: str, ports: dict[str, int]) -> None:
        self.address = address
        self.engines = {name: Engine(name, port) for name, port in ports.items()}
        self.gates: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stub engines", daemon=True)

    def open(self) -> None:
        self._thread.start()
        for name in self.engines:
            self.listen(name)

    def close(self) -> None:
        for name in self.engines:
            self.refuse(name)
        self._call(self._end_connections())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def reset(self) -> None:
        """Back to health; what was seen is forgotten."""
        for engine in self.engines.values():
            engine.healthy = True
            engine.script = None
            engine.peak = engine.running
            engine.seen.clear()
            if engine.server is None:
                self.listen(engine.name)

    def listen(self, name: str) -> None:
        self._call(self._listen(self.engines[name]))

    def refuse(self, name: str) -> None:
        """From now on connections to this engine are refused; running ones go on."""
        self._call(self._refuse(self.engines[name]))

    def seen(self, *names: str) -> list[Seen]:
        """Requests that reached these engines, or any, in the order of their arrival."""
        chosen = names or tuple(self.engines)
        return sorted((seen for name in chosen for seen in self.engines[name].seen), key=lambda seen: seen.started)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self, engine: Engine) -> None:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
            return self._serve(engine, reader, writer)

        engine.server = await asyncio.start_server(serve, self.address, engine.port, backlog=1024, limit=2**22)

    async def _refuse(self, engine: Engine) -> None:
        if engine.server is not None:
            engine.server.close()
            engine.server = None

    async def _end_connections(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(engine, reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    async def _one(self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request. False: the connection is to be closed."""
        head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, _ = request.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._body(headers, reader)
        keep = headers.get("connection", "").lower() != "close"
        if path == "/health":
            status = "200 OK" if engine.healthy else "503 Service Unavailable"
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
            return keep
        if path == "/v1/models":
            page = json.dumps(
                {"object": "list", "data": [{"id": name, "root": "/srv/stub/1"} for name in engine.serves]}
            )
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(page)}\r\n\r\n{page}".encode())
            await writer.drain()
            return keep
        if path == "/metrics":
            page = (
                f'vllm:num_requests_running{{engine="0"}} {engine.running}\nvllm:num_requests_waiting{{engine="0"}} 0\n'
            )
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(page)}\r\n\r\n{page}".encode())
            await writer.drain()
            return keep
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            # As an engine does: what is no JSON object is the client's mistake, not a reason to hang up.
            error = {"message": "made by the stub", "type": "stub_error", "param": None, "code": 400}
            return await self._whole(writer, 400, {"error": error}) and keep
        seen = Seen(engine.name, method, path, headers, parsed, time.monotonic())
        engine.seen.append(seen)
        engine.running += 1
        engine.peak = max(engine.peak, engine.running)
        try:
            return await self._answer(seen, reader, writer) and keep
        except (Gone, ConnectionError):
            seen.abandoned = True
            return False
        finally:
            engine.running -= 1
            seen.ended = time.monotonic()

    async def _body(self, headers: dict[str, str], reader: asyncio.StreamReader) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        # Trailers, if any, end with an empty line.
        while await reader.readuntil(b"\r\n") != b"\r\n":
            continue
        return body

    async def _answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        wish = seen.body.get("stub", {})
        tokens = int(wish.get("tokens", 3))
        pause = watching(reader)
        await pause(float(wish.get("ttft", 0)))
        if wish.get("hang_up"):
            return False
        if wish.get("nonsense"):
            writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")
            await writer.drain()
            return False
        if status := wish.get("status"):
            error = {"message": "made by the stub", "type": "stub_error", "param": None, "code": status}
            return await self._whole(writer, int(status), {"error": error})
        if script := self.engines[seen.engine].script:
            answers = script(seen)
            await pause(0 if answers else 60)
            return await self._scripted(writer, answers, bool(seen.body.get("stream")))
        if not seen.body.get("stream"):
            await pause(float(wish.get("gap", 0)) * tokens)
            return await self._whole(writer, 200, completion(seen, tokens))
        writer.write(STREAM_HEAD)
        for number in self._numbers(tokens, wish.get("gate")):
            if number == wish.get("cut_after"):
                await writer.drain()
                writer.transport.abort()
                return False
            if number == wish.get("silent_after"):
                await pause(60)
            if number == wish.get("fail_after"):
                self._event(writer, json.dumps({"error": {"message": "made by the stub", "type": "stub_error"}}))
                break
            self._event(writer, json.dumps(chunk(seen, number)))
            await writer.drain()
            await pause(float(wish.get("gap", 0)))
        else:
            self._event(writer, json.dumps(last_event(seen, tokens)))
        self._event(writer, "[DONE]")
        await writer.drain()
        await pause(float(wish.get("linger", 0)))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _scripted(self, writer: asyncio.StreamWriter, answers: list[Any], stream: bool) -> bool:
        if not stream:
            return await self._whole(writer, 200, answers[0])
        writer.write(STREAM_HEAD)
        for data in answers:
            self._event(writer, data if isinstance(data, str) else json.dumps(data))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _numbers(self, tokens: int, gate: str | None) -> Iterator[int]:
        number = 0
        while number < tokens or (gate is not None and gate not in self.gates):
            yield number
            number += 1

    async def _whole(self, writer: asyncio.StreamWriter, status: int, answer: dict[str, Any]) -> bool:
        text = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} Stub\r\nserver: uvicorn\r\nx-vllm-internal: secret\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()
        return True

    def _event(self, writer: asyncio.StreamWriter, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")


def watching(reader: asyncio.StreamReader) -> Callable[[float], Coroutine[Any, Any, None]]:
    """A sleep that ends with Gone as soon as the other side closes the connection."""

    async def pause(seconds: float) -> None:
        try:
            data = await asyncio.wait_for(reader.read(1), timeout=max(seconds, 0.0005))
        except TimeoutError:
            return
        if not data:
            raise Gone
        raise AssertionError("the balancer sent a second request before the first one was answered")

    return pause


def usage_of(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


def last_event(seen: Seen, tokens: int) -> dict[str, Any]:
    """The usage."""
    if seen.path == "/v1/responses":
        return completed_response(tokens)
    return {**chunk(seen, None), "choices": [], "usage": usage_of(tokens)}


def completed_response(tokens: int) -> dict[str, Any]:
    """The last event of a streamed response: all of the text again, then the usage."""
    usage = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": tokens}
    output = [{"type": "message", "content": [{"type": "output_text", "text": "t " * 20_000}]}]
    response = {"id": "resp-stub", "output": output, "usage": {**usage, "total_tokens": 7 + tokens}, "metadata": {}}
    return {"type": "response.completed", "response": response}


def chunk(seen: Seen, number: int | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": seen.body.get("stub", {}).get("text", f"t{number} ")},
        "finish_reason": None,
    }
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": seen.body.get("model", ""),
        "choices": [choice],
    }


def completion(seen: Seen, tokens: int) -> dict[str, Any]:
    text = " ".join(f"t{number}" for number in range(tokens))
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1,
        "model": seen.body.get("model", ""),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage_of(tokens),
    }


def main() -> None:
    address, *engines = sys.argv[1:]
    Stub(address, {name: int(port) for name, _, port in (engine.partition("=") for engine in engines)}).open()
    threading.Event().wait()


if __name__ == "__main__":
    main()
