"""Open-loop load: requests leave at their appointed times, whatever became of those before. Bounded in count and time.

Standard library only, so that it also runs inside a node: python3 load.py <plan.json, a list of Planned; prints Seen.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Planned:
    """One request: when it leaves (seconds after the start), with which key and body, and where to if not to the one."""

    at_seconds: float
    kind: str
    key: str
    body: dict[str, Any]
    lane: str = ""
    host: str = ""
    port: int = 0


@dataclass
class Seen:
    """What a client saw. `first_token_seconds` is None where no token came."""

    kind: str
    status: int
    first_token_seconds: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    error: str = ""
    seconds: float = 0.0


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process, the same for the same seed."""
    draw, moment, moments = random.Random(seed), 0.0, []
    while (moment := moment + draw.expovariate(rate)) < seconds:
        moments.append(moment)
    return moments


async def ask(host: str, port: int, planned: Planned, limit_seconds: float) -> Seen:
    data = json.dumps(planned.body).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"{f'x-lane: {planned.lane}{chr(13)}{chr(10)}' if planned.lane else ''}"
        f"authorization: Bearer {planned.key}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    begin = time.monotonic()
    seen = Seen(planned.kind, 0)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(limit_seconds):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(head.encode() + data)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            seen.status = int(lines[0].split(" ")[1])
            seen.headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
            }
            rest, length = b"", 0
            while piece := await reader.read(65536):
                if seen.first_token_seconds is None and seen.status == 200 and b"data: " in piece:
                    seen.first_token_seconds = time.monotonic() - begin
                rest, length = (rest + piece)[-200:], length + len(piece)
            whole_stream = b"[DONE]" in rest and rest.endswith(b"0\r\n\r\n")
            seen.complete = whole_stream or seen.headers.get("content-length") == str(length)
    except (TimeoutError, OSError, asyncio.IncompleteReadError, IndexError, ValueError) as error:
        seen.error = f"{type(error).__name__}: {error}"
    finally:
        if writer is not None:
            writer.close()
    seen.seconds = time.monotonic() - begin
    return seen


async def run(address: tuple[str, int], plan: Iterable[Planned], limit_seconds: float = 60) -> list[Seen]:
    """Sends every planned request at its time and waits for all of them."""
    begin = time.monotonic()

    async def one(planned: Planned) -> Seen:
        await asyncio.sleep(max(0.0, begin + planned.at_seconds - time.monotonic()))
        return await ask(planned.host or address[0], planned.port or address[1], planned, limit_seconds)

    return list(await asyncio.gather(*(one(planned) for planned in plan)))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    assert values, "no values: nothing was answered"
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def first_tokens(seen: list[Seen], kind: str) -> list[float]:
    return [one.first_token_seconds for one in seen if one.kind == kind and one.first_token_seconds is not None]


def main() -> None:
    plan = [Planned(**one) for one in json.load(sys.stdin)]
    json.dump([asdict(one) for one in asyncio.run(run(("", 0), plan))], sys.stdout)


if __name__ == "__main__":
    main()
