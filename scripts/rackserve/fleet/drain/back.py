"""Engines back into service: the moves of scripts/undrain. Proof by a token, a few prompts to warm up, then requests."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain.fleet import Fleet
from rackserve.fleet.drain.observe import observe
from rackserve.fleet.drain.out import Exit, Result, hold_of
from rackserve.fleet.drain.records import Hold, InOtherHands
from rackserve.fleet.drain.sight import Sight
from rackserve.fleet.errors import FleetError, NonsenseError
from rackserve.fleet.saving import saved, unsaved
from rackserve.fleet.ssh import Host
from rackserve.fleet.workers import Workers

DEADLINE_SECONDS = 10.0
LOOK_SECONDS = 0.5
# A prompt that takes longer is no warm-up any more. Below the time after which a silent command counts as dead.
PROMPT_SECONDS = 20.0
WARM_UP_SECONDS = 60.0
# Letters of the warm-up prompts; each length is its own shape to the engine. At most half of what the model takes.
LENGTHS = (16, 128, 512, 2048)
WARM_UP_TOKENS = 16
_ON_TOP_SECONDS = 10.0


@dataclass(frozen=True)
class Wish:
    """What the operator asks."""

    names: tuple[str, ...]
    force: bool = False


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    seconds: float = 0
    tokens: int = 0


Tell = Callable[[str], None]


def out_anywhere(seen: Sight, name: str) -> bool:
    """Some balancer keeps it out by an operator's word, or has a record of it."""
    return any(
        name in each.records or (name in each.engines and (each.engines[name].drained or each.engines[name].maintained))
        for each in seen.balancers.values()
    )


def plan(fleet: Fleet, wish: Wish) -> tuple[Sight, tuple[str, ...], Result | None]:
    """What was seen, the engines to bring back, and the result where there is nothing to do or nothing may be done."""
    seen = observe(fleet, wish.names, plans=True)
    names = tuple(name for name in wish.names if out_anywhere(seen, name))
    undone = dict(seen.unreachable)
    if not seen.balancers or (undone and not wish.force):
        told = "; ".join(f"balancer {name} could not be asked: {why}" for name, why in undone.items())
        return seen, names, Result(Exit.UNKNOWN, f"{told}. Nothing was changed; --force does the others", undone=undone)
    if not names:
        return seen, names, Result(Exit.DONE, f"{', '.join(wish.names)}: not drained at any balancer; nothing to do")
    return seen, names, None


def undrain(
    fleet: Fleet,
    wish: Wish,
    seen: Sight,
    names: tuple[str, ...],
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """After `plan`. Raises FleetError when a balancer refuses or answers nonsense."""
    hold = hold_of(fleet)
    try:
        hold.take(names, "returning", max(one.now for one in seen.balancers.values()))
    except InOtherHands as error:
        return Result(Exit.HELD, f"{error}. Wait for it, or look at scripts/status.")
    done = False
    try:
        hold.keep(names, step="returning")
        hosts = [host for host in fleet.balancers if host.name in seen.balancers]
        result = _return(fleet, wish, seen, names, hosts, hold, (tell, clock, sleep))
        done = result.code is Exit.DONE or (result.code is Exit.UNKNOWN and wish.force)
    except InOtherHands as error:
        return Result(Exit.HELD, str(error))
    finally:
        with suppress(FleetError):
            if done:
                hold.drop(names)
            else:
                hold.leave(names)
    return result


Ways = tuple[Tell, Callable[[], float], Callable[[float], None]]


def _return(
    fleet: Fleet, wish: Wish, seen: Sight, names: tuple[str, ...], hosts: Sequence[Host], hold: Hold, ways: Ways
) -> Result:
    tell, clock, sleep = ways
    tell(f"asking {', '.join(names)} for a token")
    silent = _prove(fleet, names, hosts)
    if silent and not wish.force:
        told = "; ".join(f"{name}: {why}" for name, why in silent.items())
        hold.keep(names, step="drained")
        return Result(
            Exit.HELD,
            f"no token from {told}. It stays out. Look at it on its node: journalctl -u vllm@{next(iter(silent))}",
        )
    notes = [f"{name}: no token before it came back, forced: {why}" for name, why in silent.items()]
    notes += _warm_up(fleet, [name for name in names if name not in silent], hosts[0], hold, ways)
    hold.keep(names, step="returning")
    tell("requests come again")
    notes += [
        f"{name}: this holds until HAProxy is restarted; its state could not be saved: {why}"
        for name, why in ready(fleet, seen, names, hosts).items()
    ]
    missing = _wait(fleet, names, (tell, clock, sleep))
    undone = dict(seen.unreachable)
    if missing:
        told = "; ".join(missing)
        return Result(
            Exit.FAILED,
            f"{told}. Look at the balancer's checks: journalctl -u haproxy",
            undone=undone,
            notes=tuple(notes),
        )
    said = f"{', '.join(names)}: in service at {', '.join(host.name for host in hosts)}"
    if undone:
        return Result(Exit.UNKNOWN, f"{said}; not asked: {', '.join(undone)}", undone=undone, notes=tuple(notes))
    return Result(Exit.DONE, said, notes=tuple(notes))


def _prove(fleet: Fleet, names: Sequence[str], hosts: Sequence[Host]) -> dict[str, str]:
    """Engines that do not give one token over the way that requests take, from every balancer; and why."""
    seconds = max([PROMPT_SECONDS / 2, *(_health(fleet, name, "token_deadline_seconds") for name in names)])
    asked = {name: _talk(fleet, name, [(16, 1)], min(seconds, PROMPT_SECONDS)) for name in names}
    outcome = on_each(hosts, lambda host: _said(host, asked))
    silent: dict[str, str] = {}
    for balancer, answers in outcome.done.items():
        for name, told in answers.items():
            why = "no answer in time" if not told else told[-1].error
            if why:
                silent.setdefault(name, f"asked from {balancer}: {why}")
    for balancer, error in outcome.failed.items():
        silent |= {name: f"asked from {balancer}: {error}" for name in names if name not in silent}
    return silent


def _warm_up(fleet: Fleet, names: Sequence[str], host: Host, hold: Hold, ways: Ways) -> list[str]:
    """All engines at the same time, one prompt each at a time. Returns what did not go as it should; it stops nothing."""
    tell, clock, _ = ways
    ends, left, notes = clock() + WARM_UP_SECONDS, list(names), []
    for letters in (*LENGTHS, LENGTHS[0]):
        if not left:
            break
        if clock() > ends:
            notes.append(f"the warm-up was ended after {WARM_UP_SECONDS:g} s")
            break
        tell(f"warming up {', '.join(left)} with {letters} letters")
        asked = {
            name: _talk(fleet, name, [(min(letters, _half(fleet, name)), WARM_UP_TOKENS)], PROMPT_SECONDS)
            for name in left
        }
        for name, told in _said(host, asked).items():
            if not told or told[-1].error:
                notes.append(f"{name}: the warm-up was broken off: {told[-1].error if told else 'no answer in time'}")
                left.remove(name)
        hold.keep(names)
    return notes


def _half(fleet: Fleet, name: str) -> int:
    """Letters that are certain to fit: a letter is at most one token."""
    release = fleet.plan["releases"][_raw(fleet, name)["release"]]
    return max(int(fleet.plan["models"][release["model"]]["context_tokens"]) // 2, 1)


def _raw(fleet: Fleet, name: str) -> Mapping[str, Any]:
    return next(one for one in fleet.plan["engines"] if one["name"] == name)


def _health(fleet: Fleet, name: str, key: str) -> float:
    return float(fleet.plan["pools"][fleet.engines[name].pool]["health"][key])


def _talk(fleet: Fleet, name: str, prompts: list[tuple[int, int]], seconds: float) -> dict[str, Any]:
    return {
        "url": fleet.engines[name].url,
        "key": fleet.key,
        "model": _raw(fleet, name)["served_names"][0],
        "prompts": prompts,
        "seconds": seconds,
    }


def _said(host: Host, asked: Mapping[str, Any]) -> dict[str, list[_Answer]]:
    said = host.call("engines", {"action": "talk", "engines": dict(asked)}, PROMPT_SECONDS + DEADLINE_SECONDS)
    try:
        return {name: [_Answer.model_validate(one) for one in told] for name, told in dict(said).items()}
    except (ValidationError, TypeError, ValueError) as error:
        raise NonsenseError(host.name, "engines", str(said)[:200]) from error


def ready(fleet: Fleet, seen: Sight, names: Sequence[str], hosts: Sequence[Host]) -> dict[str, str]:
    """Through maintenance, because only what comes out of it starts slowly; with requests still there, without it."""

    def one(host: Host) -> str:
        commands = []
        for name in names:
            place = seen.balancers[host.name].engines.get(name)
            if place is not None and place.drained and not seen.streams(name):
                commands.append(f"set server engines/{name} state maint")
            commands.append(f"set server engines/{name} state ready")
        paths = fleet.paths[host.name]
        Workers(host, paths.socket, paths.master, DEADLINE_SECONDS).tell(commands)
        return saved(host, fleet.paths[host.name].saver, DEADLINE_SECONDS)

    return unsaved(on_each(hosts, one))


def _wait(fleet: Fleet, names: Sequence[str], ways: Ways) -> list[str]:
    """Until every balancer that answers sends requests there. Returns those that do not in time, and what they say."""
    tell, clock, sleep = ways
    ends = clock() + patience_seconds(fleet, names)
    while True:
        missing = missing_at(observe(fleet, names), names)
        if not missing or clock() > ends:
            return missing
        tell("; ".join(missing))
        sleep(LOOK_SECONDS)


def patience_seconds(fleet: Fleet, names: Sequence[str]) -> float:
    """So long checks may take until they pass."""
    return (
        max(_health(fleet, name, "interval_seconds") * _health(fleet, name, "rise") for name in names) + _ON_TOP_SECONDS
    )


def missing_at(seen: Sight, names: Sequence[str]) -> list[str]:
    """Balancers that do not send requests to one of them, and what they say."""
    return [
        f"{balancer} does not send requests to {name}"
        + ("" if place.running else ": its checks fail")
        + (": it is still drained" if place.drained or place.maintained else "")
        for balancer, each in seen.balancers.items()
        for name, place in each.engines.items()
        if name in names and not (place.serving and place.running and not place.drained)
    ]
