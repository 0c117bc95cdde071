"""Engines from track to track, at all balancers: every step is looked at before the next. Killed at any point, the same call
again goes on from what it finds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rackserve.canary.moves.decide import Kind, next_step, restoring
from rackserve.canary.moves.observe import observe
from rackserve.canary.moves.sight import Sight
from rackserve.canary.moves.split import DEADLINE_SECONDS, Split
from rackserve.fleet.balancers import on_each
from rackserve.fleet.errors import FleetError
from rackserve.fleet.saving import saved, unsaved
from rackserve.fleet.ssh import Host
from rackserve.fleet.workers import Workers

LOOK_SECONDS = 0.5
# Somebody else who changes the same servers would otherwise be fought for ever.
TELLS_AT_MOST = 4


@dataclass(frozen=True)
class Moved:
    """`kind`: done, refused or unknown; but for done the engine is back where it was, where `said` does not say otherwise.

    `unsaved`: balancers that forget it when HAProxy is killed, and why.
    """

    kind: Kind
    said: str
    unsaved: Mapping[str, str] = field(default_factory=dict)


def move(
    split: Split,
    engine: str,
    track: str,
    wait_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Moved:
    """Into the track, once nothing of it runs in another one; `wait_seconds` is the time for that. Raises FleetError when a
    balancer refuses a command."""
    before = seen = observe(split)
    ends, told = clock() + wait_seconds, 0
    unsaved: dict[str, str] = {}
    while True:
        step = next_step(seen, engine, track, ends - clock())
        if step.kind is Kind.DONE:
            return Moved(step.kind, step.reason, unsaved)
        if step.kind in (Kind.REFUSED, Kind.UNKNOWN):
            return Moved(step.kind, step.reason + (_restore(split, before, engine) if told else ""), unsaved)
        if step.kind is Kind.WAIT:
            sleep(LOOK_SECONDS)
        elif told == TELLS_AT_MOST:
            return Moved(Kind.REFUSED, f"told {told} times, and still: {step.reason}. Who else changes it?", unsaved)
        else:
            told += 1
            unsaved |= _tell(split, step.commands)
        seen = observe(split)


def _tell(split: Split, commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Returns balancers whose state could not be saved. One that could not be asked shows at the next look."""

    def one(host: Host) -> str:
        paths = split.paths[host.name]
        Workers(host, paths.socket, paths.master, DEADLINE_SECONDS).tell(commands[host.name])
        return saved(host, paths.saver, DEADLINE_SECONDS) if paths.saver else "there is no program that saves it"

    return unsaved(on_each([host for host in split.balancers if host.name in commands], one))


def _restore(split: Split, before: Sight, engine: str) -> str:
    """Says what it came to, for the end of a sentence."""
    now = observe(split)
    known = Sight(now.pool, {name: place for name, place in now.places.items() if name in before.places})
    try:
        _tell(split, restoring(before, known, engine))
    except FleetError as error:
        return f". It could not be put back: {error}"
    again = observe(split)
    lost = [
        name
        for name, place in before.places.items()
        if name not in again.places or again.places[name].tracks_of(engine) != place.tracks_of(engine)
    ]
    return f". Not where it was before: at {', '.join(lost)}" if lost else ". It is back where it was"
