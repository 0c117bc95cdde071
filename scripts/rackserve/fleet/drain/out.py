"""Engines out of service: the moves of scripts/drain. Every step is looked at before the next; killed at any point, the next
run goes on from what it finds."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain.decide import Kind, Permission, Step, Verdict, may_drain, next_step
from rackserve.fleet.drain.fleet import Fleet
from rackserve.fleet.drain.observe import observe
from rackserve.fleet.drain.records import Hold, InOtherHands
from rackserve.fleet.drain.sight import Sight
from rackserve.fleet.errors import FleetError
from rackserve.fleet.haproxy_files import TRACKS
from rackserve.fleet.saving import saved, unsaved
from rackserve.fleet.ssh import Host
from rackserve.fleet.workers import Workers

DEADLINE_SECONDS = 10.0
LOOK_SECONDS = 1.0
# How often one says that one is still there: well below the time after which a silent command counts as dead.
BEAT_SECONDS = 5.0
# A drain that is told again and again and does not hold is somebody else's doing.
SETS_AT_MOST = 5


class Exit(IntEnum):
    """As of every command."""

    DONE = 0
    FAILED = 1
    UNKNOWN = 3
    HELD = 4


@dataclass(frozen=True)
class Result:
    """`said`: what happened, in one sentence. `undone`: balancers at which it could not be done, and why."""

    code: Exit
    said: str
    streams: int | None = None
    undone: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What the operator asks. `deadline_seconds`: for requests that run, from the moment of the drain."""

    names: tuple[str, ...]
    deadline_seconds: float
    cut: bool = False
    force: bool = False
    reason: str = ""


Tell = Callable[[Step], None]


def plan(fleet: Fleet, wish: Wish) -> tuple[Sight, Permission]:
    seen = observe(fleet, wish.names, plans=True)
    return seen, may_drain(seen, wish.names, wish.force)


def refused(permission: Permission) -> Result | None:
    """What a permission that is none comes to."""
    if permission.verdict is Verdict.GO:
        return None
    code = Exit.HELD if permission.verdict is Verdict.REFUSED else Exit.UNKNOWN
    said = "; ".join(permission.reasons)
    hint = "" if code is Exit.HELD else ". Nothing was changed; --force goes on without knowing"
    return Result(code, f"{said}{hint}", notes=permission.notes)


def drain(
    fleet: Fleet,
    wish: Wish,
    seen: Sight,
    tell: Tell,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """After `plan` has let it. Raises FleetError when a balancer refuses or answers nonsense."""
    if not seen.balancers:
        return Result(Exit.UNKNOWN, f"no balancer could be asked: {'; '.join(seen.unreachable.values())}")
    hold = hold_of(fleet)
    try:
        hold.take(wish.names, "draining", max(one.now for one in seen.balancers.values()), wish.reason)
    except InOtherHands as error:
        return Result(Exit.HELD, f"{error}. Wait for it, or look at scripts/status.")
    step = "draining"
    try:
        result = _follow(fleet, wish, hold, tell, clock, sleep)
        step = "drained" if result.code is Exit.DONE else "held"
    except InOtherHands as error:
        return Result(Exit.HELD, str(error))
    finally:
        # An interrupted drain stays where it is; its record says so.
        with suppress(FleetError):
            hold.leave(wish.names, step=step)
    return result


def _follow(
    fleet: Fleet, wish: Wish, hold: Hold, tell: Tell, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Result:
    began, told, beaten = clock(), 0, clock()
    unsaved_at: dict[str, str] = {}
    while True:
        seen = observe(fleet, wish.names)
        step = next_step(seen, wish.names, clock() - began, wish.deadline_seconds, wish.cut, wish.force)
        tell(step)
        if step.kind in (Kind.DONE, Kind.HELD, Kind.UNKNOWN):
            return _result(step, seen, wish, unsaved_at)
        if step.kind is Kind.SET:
            if told == SETS_AT_MOST:
                return Result(Exit.FAILED, f"told to drain {told} times, and still {step.reason}: who else changes it?")
            unsaved_at |= set_state(fleet, step.balancers, wish.names, "drain")
            # What was out already when this command began has its time from then on.
            began, told = (began if told else clock()), told + 1
            hold.keep(wish.names, step="draining", streams=step.streams)
            continue
        if step.kind is Kind.CUT:
            _cut(fleet, wish.names)
        if clock() - beaten >= BEAT_SECONDS:
            hold.keep(wish.names, step="draining", streams=step.streams)
            beaten = clock()
        sleep(LOOK_SECONDS)


def _result(step: Step, seen: Sight, wish: Wish, unsaved: dict[str, str]) -> Result:
    names = ", ".join(wish.names)
    notes = tuple(
        f"{name}: the drain holds until HAProxy is restarted; its state could not be saved: {why}"
        for name, why in unsaved.items()
    )
    undone = dict(seen.unreachable)
    if step.kind is Kind.DONE and undone:
        said = f"{names}: out at {', '.join(seen.balancers)}; not at {', '.join(undone)}, which could not be asked"
        return Result(Exit.UNKNOWN, said, step.streams, undone, notes)
    if step.kind is Kind.DONE:
        return Result(Exit.DONE, f"{names}: drained; {step.reason}", 0, {}, notes)
    if step.kind is Kind.UNKNOWN:
        return Result(Exit.UNKNOWN, f"{names}: {step.reason}; what is out stays out", step.streams, undone, notes)
    said = (
        f"{names}: the time is up and {step.streams or 0} requests still run ({step.reason}). They go on, and nothing new comes. "
        "Run it again to wait longer, with --cut to end them, or scripts/undrain to go back."
    )
    return Result(Exit.HELD, said, step.streams, undone, notes)


def hold_of(fleet: Fleet) -> Hold:
    return Hold(fleet.balancers, {name: paths.records for name, paths in fleet.paths.items()})


def set_state(fleet: Fleet, balancers: Sequence[str], names: Sequence[str], state: str) -> dict[str, str]:
    """Tells these balancers. Returns those whose state could not be saved."""
    commands = [f"set server engines/{name} state {state}" for name in names]

    def one(host: Host) -> str:
        _workers(fleet, host).tell(commands)
        return saved(host, fleet.paths[host.name].saver, DEADLINE_SECONDS)

    return unsaved(on_each([host for host in fleet.balancers if host.name in balancers], one))


def _cut(fleet: Fleet, names: Sequence[str]) -> None:
    commands = [
        f"shutdown sessions server pool-{fleet.engines[name].pool}-{track}/{name}" for name in names for track in TRACKS
    ]
    on_each(fleet.balancers, lambda host: _workers(fleet, host).tell(commands))


def _workers(fleet: Fleet, host: Host) -> Workers:
    paths = fleet.paths[host.name]
    return Workers(host, paths.socket, paths.master, DEADLINE_SECONDS)
