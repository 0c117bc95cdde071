"""Asks one engine everything of a reference set: a few at a time, each with a deadline, nothing repeated."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from rackserve.canary.quality.answers import Answer, Failure, Refusal, Scored, Sheet
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.replies import (
    CHAT,
    COMPLETIONS,
    answer_of,
    question_of_prompt,
    question_of_text,
    scored_of,
)

T = TypeVar("T", bound=Answer | Scored)
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Engine:
    """`url`: up to the port, as it is reached from here. `model`: the name that it serves."""

    name: str
    url: str
    key: str
    model: str


@dataclass(frozen=True)
class Pace:
    """`at_once`: requests at a time. `seconds`: for one answer; `total_seconds`: for all of them."""

    at_once: int = 4
    seconds: float = 120.0
    total_seconds: float = 900.0


class _Unreachable(Exception):
    """There is no way to the engine."""


async def ask(
    engine: Engine,
    reference: Reference,
    salt: str,
    pace: Pace = Pace(),
    transport: httpx.AsyncBaseTransport | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Sheet:
    """Does not raise: what went wrong stands in the sheet. `tell`: how far it is."""
    total = len(reference.prompts) + len(reference.texts)
    places, done, unreachable = asyncio.Semaphore(pace.at_once), 0, ""

    async with httpx.AsyncClient(
        base_url=engine.url,
        headers={"authorization": f"Bearer {engine.key}"},
        timeout=httpx.Timeout(pace.seconds, connect=_CONNECT_SECONDS, pool=None),
        transport=transport,
        # No proxy: an operator's machine may have one in its environment.
        trust_env=False,
    ) as client:

        async def one(
            path: str, body: dict[str, Any], read: Callable[[int, bytes], T | Refusal | Failure]
        ) -> T | Refusal | Failure:
            nonlocal done
            async with places:
                try:
                    result = await _one(client, path, body, read, pace.seconds)
                except _Unreachable as error:
                    if not done:
                        raise
                    # It was there a moment ago, so this is its own doing.
                    result = Failure(f"the engine is gone: {error}")
            done += 1
            tell(done, total)
            return result

        try:
            async with asyncio.timeout(pace.total_seconds), asyncio.TaskGroup() as group:
                prompts = {
                    prompt.name: group.create_task(one(CHAT, question_of_prompt(prompt, engine.model, salt), answer_of))
                    for prompt in reference.prompts
                }
                texts = {
                    text.name: group.create_task(
                        one(COMPLETIONS, question_of_text(text, engine.model, salt), scored_of)
                    )
                    for text in reference.texts
                }
        except* _Unreachable as errors:
            unreachable = f"{engine.url}: {errors.exceptions[0]}"
        except* TimeoutError:
            pass
    if unreachable:
        return Sheet(engine.name, unreachable=unreachable)
    late = Failure(f"not all answers within {pace.total_seconds:g} s")
    return Sheet(
        engine.name,
        {name: late if task.cancelled() else task.result() for name, task in prompts.items()},
        {name: late if task.cancelled() else task.result() for name, task in texts.items()},
    )


async def _one(
    client: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    read: Callable[[int, bytes], T | Refusal | Failure],
    seconds: float,
) -> T | Refusal | Failure:
    """Raises _Unreachable. A deadline counts from sending to the last byte."""
    try:
        async with asyncio.timeout(seconds):
            reply = await client.post(path, json=body)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _Unreachable(str(error) or type(error).__name__) from error
    except (httpx.TimeoutException, TimeoutError):
        return Failure(f"no answer within {seconds:g} s")
    except httpx.HTTPError as error:
        return Failure(f"the connection broke: {error or type(error).__name__}")
    if reply.status_code in (401, 403):
        raise _Unreachable(f"the engine refuses the key (status {reply.status_code})")
    return read(reply.status_code, reply.content)
