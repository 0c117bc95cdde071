"""A client that asks the service all the time and accounts for every request: ok, refused clearly, failed or cut."""

import asyncio
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drills.load import Planned, Seen, ask

Outcome = Literal["ok", "refused", "failed", "cut"]
# No drill may ask for ever; an update of two nodes takes a few minutes.
LONGEST_SECONDS = 1200
ANSWER_SECONDS = 60
STREAM = {"model": "small", "max_tokens": 48, "stream": True, "ignore_eos": True}
ANSWER = {"model": "small", "max_tokens": 8, "ignore_eos": True}


@dataclass(frozen=True)
class Request:
    """`sent` in seconds of the monotonic clock. `outcome` is what a user would call it."""

    sent: float
    seconds: float
    outcome: Outcome
    seen: Seen


def outcome(seen: Seen) -> Outcome:
    """Refused clearly: a client error, or a server's with the time after which to come again."""
    if seen.status == 200:
        return "ok" if seen.complete else "cut"
    clear = 400 <= seen.status < 500 or "retry-after" in seen.headers
    return "refused" if clear else "failed"


@dataclass
class Client:
    """Every second as many requests as `rate`, to the addresses in turn: one stream, one plain answer. Bounded in time."""

    addresses: Sequence[tuple[str, int]]
    key: str
    rate: float = 5
    requests: list[Request] = field(default_factory=list)
    open: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Client":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=ANSWER_SECONDS + 10)

    async def _run(self) -> None:
        begin = time.monotonic()
        tasks: list[asyncio.Task[None]] = []
        turns = zip(itertools.count(), itertools.cycle(self.addresses), itertools.cycle((STREAM, ANSWER)), strict=False)
        for number, address, body in turns:
            await asyncio.sleep(max(0.0, begin + number / self.rate - time.monotonic()))
            if self._stop.is_set() or time.monotonic() - begin > LONGEST_SECONDS:
                break
            # Each another one: a prompt on which engines die again and again is refused.
            question = {"role": "user", "content": f"Write one line, {uuid.uuid4().hex}."}
            tasks.append(asyncio.create_task(self._one(address, {**body, "messages": [question]})))
        await asyncio.gather(*tasks)

    async def _one(self, address: tuple[str, int], body: dict[str, Any]) -> None:
        sent = time.monotonic()
        self.open += 1
        seen = await ask(*address, Planned(0, "", self.key, body), ANSWER_SECONDS)
        self.open -= 1
        self.requests.append(Request(sent, seen.seconds, outcome(seen), seen))

    def good_since(self, moment: float) -> int:
        """How many in a row were answered, of those sent since then; 0 after any other outcome."""
        later = sorted((one for one in list(self.requests) if one.sent >= moment), key=lambda one: one.sent)
        bad = [number for number, one in enumerate(later) if one.outcome != "ok"]
        return len(later) - (bad[-1] + 1 if bad else 0)


def counted(requests: Iterable[Request]) -> dict[Outcome, int]:
    counts: dict[Outcome, int] = {"ok": 0, "refused": 0, "failed": 0, "cut": 0}
    for one in requests:
        counts[one.outcome] += 1
    return counts


def examples(requests: Iterable[Request], since: float) -> str:
    """The first ones that were lost, for a message."""
    lost = [one for one in requests if one.outcome in ("failed", "cut")]
    told = [{"sent": round(one.sent - since, 2), "took": round(one.seconds, 2), "status": one.seen.status,
             "error": one.seen.error[:80]} for one in sorted(lost, key=lambda one: one.sent)]  # fmt: skip
    return "\n".join(json.dumps(one) for one in told[:8])
