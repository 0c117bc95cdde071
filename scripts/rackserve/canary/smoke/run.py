"""Runs the trials one after the other through a balancer. Nothing is repeated: what fails once has failed."""

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from rackserve.canary.smoke import judge, questions

Outcome = Literal["pass", "fail", "inconclusive", "source_unreachable"]
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Route:
    """`url`: a balancer's, up to the port. `key`: the rack's own; no other may choose its track.

    `context_tokens`: the longest context of the pool's engines. `most_bytes`: the largest body that the balancer takes.
    `seconds`: for one answer. `certificates`: who may vouch for the balancer; None: those of the system.
    """

    url: str
    key: str
    model: str
    track: str = "canary"
    tools: bool = False
    context_tokens: int = 4096
    most_bytes: int = 262_144
    seconds: float = 60.0
    certificates: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Trial:
    """`said`: one sentence where it is not pass."""

    name: str
    outcome: Outcome
    said: str
    seconds: float


@dataclass(frozen=True)
class Smoke:
    outcome: Outcome
    reason: str
    trials: Sequence[Trial] = field(default_factory=tuple)


class _Ends(Exception):
    """A trial without an answer to judge."""

    def __init__(self, outcome: Outcome, said: str) -> None:
        super().__init__(said)
        self.outcome: Outcome = outcome
        self.said = said


def smoke(route: Route, tell: Callable[[Trial], None] = lambda trial: None) -> Smoke:
    """Takes seconds. Does not raise for what the balancer or the engine does. `tell`: each trial as it ends."""
    trials: list[Trial] = []
    with httpx.Client(
        base_url=route.url,
        headers={"authorization": f"Bearer {route.key}", "x-track": route.track},
        timeout=httpx.Timeout(route.seconds, connect=_CONNECT_SECONDS),
        verify=route.certificates or ssl.create_default_context(),
        # No proxy: an operator's machine may have one in its environment.
        trust_env=False,
    ) as client:
        for name, one in _trials(_Asker(client, route)):
            begin = time.monotonic()
            outcome, said = _tried(one)
            trials.append(Trial(name, outcome, said, time.monotonic() - begin))
            tell(trials[-1])
            if outcome == "source_unreachable":
                break
    return _whole(trials, route)


def _tried(one: Callable[[], str]) -> tuple[Outcome, str]:
    try:
        said = one()
    except _Ends as end:
        return end.outcome, end.said
    return ("fail", said) if said else ("pass", "")


def _whole(trials: Sequence[Trial], route: Route) -> Smoke:
    last = trials[-1]
    if last.outcome == "source_unreachable":
        return Smoke(last.outcome, f"The {route.track} track could not be tried at {route.url}: {last.said}.", trials)
    failed = [f"{one.name}: {one.said}" for one in trials if one.outcome == "fail"]
    if failed:
        said = f"{len(failed)} of {len(trials)} trials failed on the {route.track} track: {'; '.join(failed)}."
        return Smoke("fail", said, trials)
    times = ", ".join(f"{one.name} {one.seconds:.2g} s" for one in trials)
    return Smoke("pass", f"All {len(trials)} trials passed on the {route.track} track: {times}.", trials)


def _trials(asker: "_Asker") -> Iterator[tuple[str, Callable[[], str]]]:
    yield "chat", asker.chat
    yield "stream", asker.stream
    yield "long prompt", asker.long
    yield "stop text", asker.stop
    if asker.route.tools:
        yield "tools", asker.tools


class _Asker:
    def __init__(self, client: httpx.Client, route: Route) -> None:
        self.client, self.route = client, route
        # Until the engine has said how many tokens its text has: one for each character, the most there can be of ASCII.
        self.tokens_per_character = 1.0

    def chat(self) -> str:
        asked = questions.chat(self.route.model)
        body = self._post(asked)
        if tokens := judge.prompt_tokens(body):
            self.tokens_per_character = min(1.0, tokens / questions.characters(asked))
        return judge.chat(body, self.route.model)

    def long(self) -> str:
        route = self.route
        asked, least = questions.long(route.model, route.context_tokens, self.tokens_per_character, route.most_bytes)
        return judge.long(self._post(asked), route.model, least)

    def stop(self) -> str:
        return judge.stopped(self._post(questions.stopping(self.route.model)), self.route.model)

    def tools(self) -> str:
        return judge.tool_call(self._post(questions.tools(self.route.model)), self.route.model)

    def stream(self) -> str:
        events: list[str] = []
        end = time.monotonic() + self.route.seconds
        asked = questions.stream(self.route.model)
        with self._trouble(events), self.client.stream("POST", questions.CHAT, json=asked) as reply:
            if reply.status_code != 200:
                reply.read()
            self._accepted(reply)
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    events.append(line.removeprefix("data: "))
                if time.monotonic() > end:
                    raise _Ends("fail", f"the stream has not ended within {self.route.seconds:g} s")
        return judge.streamed(events, self.route.model)

    def _post(self, asked: dict[str, Any]) -> bytes:
        with self._trouble([]):
            reply = self.client.post(questions.CHAT, json=asked)
            self._accepted(reply)
            return reply.content

    def _accepted(self, reply: httpx.Response) -> None:
        """What the balancer itself refuses does not name the track: then the release was not asked."""
        elsewhere = judge.track_of(reply.headers, self.route.track)
        refused = judge.refusal(reply.status_code, reply.content) if reply.status_code != 200 else ""
        if elsewhere:
            raise _Ends("source_unreachable", refused or elsewhere)
        if refused:
            raise _Ends("fail", refused)

    @contextmanager
    def _trouble(self, events: list[str]) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Ends("source_unreachable", f"the balancer takes no connection: {error}") from error
        except httpx.TimeoutException as error:
            what = f" after {len(events)} events" if events else ""
            raise _Ends("fail", f"nothing came for {self.route.seconds:g} s{what}") from error
        except httpx.HTTPError as error:
            what = f" after {len(events)} events" if events else ""
            raise _Ends("fail", f"the connection broke{what}: {error}") from error
