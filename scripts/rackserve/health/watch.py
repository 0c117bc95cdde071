"""One engine: reads its page, asks it for a token when that is due, and acts on what is decided."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from rackserve.health import ask
from rackserve.health.decide import WARM_UP_SECONDS, deadline_is_short, deadline_seconds, decide, limit_seconds
from rackserve.health.figures import read
from rackserve.health.looks import Decision, Look, Memory, Page, Rules, Token, WarmUp
from rackserve.health.processors import Processors
from rackserve.health.settings import Engine, Settings

T = TypeVar("T")
# What has not come so long after its limit is given up and asked anew.
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 1.0
# Token ids that every vocabulary has. Drawn anew each time, or the prefix cache would answer.
_IDS = range(3, 250)


def rules_of(engine: Engine, settings: Settings) -> Rules:
    """What the definition says of one engine."""
    return Rules(
        port=engine.port,
        stall_seconds=settings.stall_seconds,
        idle_seconds=settings.idle_seconds,
        token_deadline_seconds=engine.token_deadline_seconds,
        restart_after_seconds=engine.restart_after_seconds,
        restarts_at_most=settings.restarts.at_most,
        restart_window_seconds=settings.restarts.window_seconds,
    )


class _Out(Generic[T]):
    """Something that was asked; one at a time."""

    def __init__(self) -> None:
        self.task: asyncio.Task[T] | None = None
        self.since: float | None = None

    def begin(self, work: Coroutine[Any, Any, T], now: float) -> None:
        self.task, self.since = asyncio.ensure_future(work), now

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def taken(self) -> T | None:
        """The result, once. Raises what the work raised."""
        if self.task is None or not self.task.done():
            return None
        task, self.task, self.since = self.task, None, None
        return task.result()

    def drop(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.task = self.since = None


class Watch:
    """`decided` gets every decision with the time of its look, `say` one sentence for every change."""

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        key: str,
        memory: Memory,
        processors: Processors,
        decided: Callable[[Engine, Decision, float], None],
        say: Callable[[str], None],
    ) -> None:
        self.engine, self.rules, self.memory = engine, rules, memory
        self._key, self._decided, self._say = key, decided, say
        self._processors = processors
        # When the page is read next: not sooner for anything else that comes.
        self._due = 0.0
        self._late = 0.0
        self._page: _Out[tuple[Page, bytes]] = _Out()
        self._token: _Out[Token] = _Out()
        self._warm_up: _Out[WarmUp] = _Out()

    async def run(self) -> None:
        """For ever; ends by being cancelled, or with what nobody expected."""
        try:
            while True:
                now = time.monotonic()
                if self._page.task is None and now >= self._due:
                    self._page.begin(self._read_page(), now)
                await self._wait(self._due - now)
                if self._page.task is not None or self._token.done or self._warm_up.done:
                    self._look()
        finally:
            for out in (self._page, self._token, self._warm_up):
                out.drop()

    async def _wait(self, seconds: float) -> None:
        """Until something comes or a look is due."""
        tasks = [out.task for out in (self._page, self._token, self._warm_up) if out.task is not None]
        if self._page.since is not None:
            left = limit_seconds(self.memory, self.rules) - (time.monotonic() - self._page.since)
            seconds = min(_LOOK_SECONDS, left) if left > 0 else _LOOK_SECONDS
        pause, began = max(seconds, 0.01), time.monotonic()
        if tasks:
            await asyncio.wait(tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(pause)
        # When this process does not get to run, or the whole machine stands still, neither does the engine.
        self._late += max(time.monotonic() - began - pause, 0.0)

    def _look(self) -> None:
        now = time.monotonic()
        page, body = self._page.taken() or (Page.NONE, b"")
        if page is Page.REFUSED:
            # What was asked of a process that is gone says nothing of the next one.
            self._token.drop()
            self._warm_up.drop()
        token, warm_up = self._token.taken(), self._warm_up.taken()
        if self._page.since is not None:
            self._give_up(now - self._page.since)
        look = Look(
            at=now,
            page=page,
            figures=read(body) if page is Page.READ else None,
            page_out=self._page.since,
            token=token,
            token_out=self._token.since,
            warm_up=warm_up,
            warm_up_out=self._warm_up.since,
            waited={**(self._processors.waited() if page is Page.READ else {}), "probe": self._late},
        )
        before, decision = self.memory, decide(self.memory, look, self.rules)
        self.memory = decision.memory
        if decision.ask:
            self._token.begin(self._ask(self._patience()), now)
        if decision.warm_up:
            self._warm_up.begin(self._warm(), now)
        self._tell(before, decision)
        self._decided(self.engine, decision, now)
        if page is not Page.NONE:
            self._due = now + decision.next_seconds

    def _give_up(self, out_seconds: float) -> None:
        """On a page that does not come, so that a new connection is tried. The decision was told long before."""
        if out_seconds > limit_seconds(self.memory, self.rules) + _PATIENCE_SECONDS:
            self._page.drop()

    def _tell(self, before: Memory, decision: Decision) -> None:
        name, after = self.engine.name, decision.memory
        if after.state is not before.state:
            self._say(f"engine {name}: {after.state.value}: {decision.reason}")
        if decision.restart:
            self._say(f"engine {name}: {decision.reason}; it is restarted")
        if after.warm is not None and after.warm != before.warm:
            step = after.warm.step_seconds
            longest = "its longest step could not be measured" if step is None else f"its longest step {step:.3f} s"
            self._say(
                f"engine {name}: warm; one token took {after.warm.token_seconds:.3f} s, {longest}, "
                f"so it counts as hung after {limit_seconds(after, self.rules):.1f} s"
            )
            if deadline_is_short(after, self.rules):
                self._say(
                    f"engine {name}: health.token_deadline_seconds of the pool {self.engine.pool} is "
                    f"{self.rules.token_deadline_seconds:g} s, but one token took {after.warm.token_seconds:.3f} s with nothing "
                    f"else to do; {deadline_seconds(after, self.rules):.3g} s is used. Set it to several times of that."
                )

    def _patience(self) -> float:
        return deadline_seconds(self.memory, self.rules) + _PATIENCE_SECONDS

    async def _read_page(self) -> tuple[Page, bytes]:
        try:
            answer = await ask.get(self.engine.port, "/metrics")
        except ask.Refused:
            return Page.REFUSED, b""
        except ask.Broken:
            return Page.BROKEN, b""
        if answer.status >= 500:
            return Page.BROKEN, b""
        return Page.READ, answer.body if answer.status == 200 else b""

    async def _ask(self, limit: float, prompt: str | list[int] = "Hello") -> Token:
        asked = time.monotonic()
        body = {"model": self.engine.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
        try:
            answer = await ask.within(limit, ask.post(self.engine.port, "/v1/completions", body, self._key))
        except (ask.Refused, ask.Broken) as error:
            return Token(asked, None, False, str(error))
        return Token(asked, answer.status, answer.status == 200 and _generated(answer.body), _message(answer.body))

    async def _warm(self) -> WarmUp:
        """The slower one of two tokens, then one prompt as long as a step can be."""
        end = time.monotonic() + WARM_UP_SECONDS
        slowest = 0.0
        for _ in range(2):
            token = await self._ask(end - time.monotonic())
            slowest = max(slowest, time.monotonic() - token.asked)
        longest = await self._longest_prompt()
        left = end - time.monotonic()
        if longest < 1 or left <= 0:
            return WarmUp(slowest, None)
        token = await self._ask(left, random.choices(_IDS, k=longest))
        return WarmUp(slowest, max(time.monotonic() - token.asked, slowest) if token.came else None)

    async def _longest_prompt(self) -> int:
        """In tokens; 0: the engine does not say how much it takes."""
        try:
            answer = await ask.within(_PATIENCE_SECONDS, ask.get(self.engine.port, "/v1/models", self._key))
            models = json.loads(answer.body)["data"]
            context = min(model["max_model_len"] for model in models if isinstance(model["max_model_len"], int))
        except (ask.Refused, ask.Broken, ValueError, KeyError, TypeError):
            return 0
        return min(self.engine.step_tokens, context - 1)


def _generated(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["usage"]["completion_tokens"] >= 1)
    except (ValueError, KeyError, TypeError):
        return False


def _message(body: bytes) -> str:
    """What an answer that is an error says, short and on one line."""
    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return " ".join(text.split())[:120]
