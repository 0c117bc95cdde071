"""What differs from what should be, and which commands an engine's move needs. Pure: sight in, decision with its reason out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rackserve.canary.moves.share import Share, shown
from rackserve.canary.moves.sight import Place, Sight
from rackserve.fleet.tracks import TRACKS, backend_of

STABLE = TRACKS[0]


class Wrong(StrEnum):
    UNREACHABLE = "unreachable"  # a balancer could not be asked
    UNREADABLE = "unreadable"  # a balancer could be asked, and could not say all
    NO_SHARE = "no_share"  # a value or a line that nobody here writes: somebody's hand
    CHANGED = "changed"  # another share than the one that was given: somebody's hand
    FILE = "file"  # the file and the running process differ: a reload would change the share
    BALANCERS = "balancers"  # balancers differ from each other
    TRACK = "track"  # an engine in no track, in several, or in different ones


@dataclass(frozen=True)
class Difference:
    """`balancer`: where; empty: between them. `text`: for people, with what to do where that is one thing."""

    kind: Wrong
    balancer: str
    text: str


def differences(seen: Sight, given: Share | None = None) -> tuple[Difference, ...]:
    """In the order of danger. `given`: the share that was given last, where that is known."""
    found = [Difference(Wrong.UNREACHABLE, name, f"{name}: {why}") for name, why in seen.unreachable.items()]
    for place in seen.places.values():
        found += _values(place, given)
    shares = {name: shown(place.live) for name, place in seen.places.items() if not place.live_error}
    if len(set(shares.values())) > 1:
        told = "; ".join(f"{name}: {share}" for name, share in shares.items())
        found.append(Difference(Wrong.BALANCERS, "", f"the balancers split pool {seen.pool} differently: {told}"))
    return (*found, *_engines(seen))


def _values(place: Place, given: Share | None) -> list[Difference]:
    name, found = place.name, []
    for error in (place.live_error, place.file_error, place.run_error, place.old_error):
        if error:
            found.append(Difference(Wrong.UNREADABLE, name, f"{name}: {error}"))
    for where, raw, share, error in (
        ("the running HAProxy", place.live, place.share, place.live_error),
        ("the file", place.file, place.filed, place.file_error),
    ):
        if error:
            continue
        refusal = share.refusal(promoting=True) if share is not None else ""
        if share is None or refusal:
            why = f": {refusal}" if refusal else ""
            text = f"{name}: {where} says {shown(raw)}{why}. Somebody wrote it by hand"
            found.append(Difference(Wrong.NO_SHARE, name, text))
        elif given is not None and share != given:
            text = f"{name}: {where} says {share}; {given} was given. Somebody changed it by hand"
            found.append(Difference(Wrong.CHANGED, name, text))
    for line in place.broken:
        found.append(Difference(Wrong.NO_SHARE, name, f"{name}: the file has a line that is no share: {line[:80]!r}"))
    if not (place.live_error or place.file_error) and place.share != place.filed:
        text = f"{name}: the running HAProxy says {shown(place.live)}, the file {shown(place.file)}: a reload would change it"
        found.append(Difference(Wrong.FILE, name, text))
    return found


def _engines(seen: Sight) -> list[Difference]:
    found = []
    names = dict.fromkeys(
        engine for place in seen.places.values() for seats in place.seats.values() for engine in seats
    )
    for engine in names:
        tracks = {name: place.tracks_of(engine) for name, place in seen.places.items()}
        for name, own in tracks.items():
            if len(own) != 1:
                told = f"in {' and '.join(own)}: it may get twice its slots" if own else "in no track"
                found.append(Difference(Wrong.TRACK, name, f"{name}: {engine} is {told}"))
        if len(set(tracks.values())) > 1:
            told = "; ".join(f"{name}: {', '.join(own) or 'none'}" for name, own in tracks.items())
            found.append(Difference(Wrong.TRACK, "", f"{engine} is in different tracks: {told}"))
    return found


class Kind(StrEnum):
    LEAVE = "leave"  # the other tracks are to send nothing more
    WAIT = "wait"  # until what runs there has ended
    ENTER = "enter"  # its own track may send requests
    DONE = "done"
    REFUSED = "refused"  # a rule of the house says no, or what runs does not end
    UNKNOWN = "unknown"  # somebody who has to be asked does not answer


@dataclass(frozen=True)
class Step:
    """`commands`: balancer -> what its HAProxy is told."""

    kind: Kind
    reason: str
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def next_step(seen: Sight, engine: str, track: str, seconds_left: float) -> Step:
    """On an engine's way into a track. A slot limit in two backends is twice the limit: it enters when nothing of it runs in the
    others, at no balancer, old processes included."""
    if seen.unreachable or not seen.places:
        return Step(Kind.UNKNOWN, "; ".join(seen.unreachable.values()) or "there is no balancer")
    unknown = [f"{name}: {place.old_error}" for name, place in seen.places.items() if place.old_error]
    if unknown:
        return Step(Kind.UNKNOWN, f"processes from before a reload could not be asked: {'; '.join(unknown)}")
    strange = [name for name, place in seen.places.items() if engine not in place.seats.get(track, {})]
    if strange:
        return Step(Kind.REFUSED, f"{', '.join(strange)} has no engine {engine} in pool {seen.pool}")
    if track != STABLE and (alone := [name for name, place in seen.places.items() if _last(place, engine)]):
        return Step(Kind.REFUSED, f"{engine} is the last that serves in {STABLE} at {', '.join(alone)}")
    busy = {
        name: sum(place.seats[other][engine].in_flight for other in TRACKS if other != track)
        for name, place in seen.places.items()
    }
    told = ", ".join(f"{count} at {name}" for name, count in busy.items() if count)
    running = f"{engine} still runs requests of the track that it leaves: {told}"
    if told and seconds_left <= 0:
        return Step(Kind.REFUSED, running)
    leave = {
        name: tuple(_command(seen.pool, other, engine, "maint") for other in place.tracks_of(engine) if other != track)
        for name, place in seen.places.items()
    }
    if leave := {name: commands for name, commands in leave.items() if commands}:
        return Step(Kind.LEAVE, f"{engine} leaves its track at {', '.join(leave)}", leave)
    if told:
        return Step(Kind.WAIT, running)
    enter = {
        name: (_command(seen.pool, track, engine, "ready"),)
        for name, place in seen.places.items()
        if place.tracks_of(engine) != (track,)
    }
    if enter:
        return Step(Kind.ENTER, f"{engine} enters {track} at {', '.join(enter)}", enter)
    return Step(Kind.DONE, f"{engine} is in {track} at {', '.join(seen.places)}")


def restoring(before: Sight, now: Sight, engine: str) -> dict[str, tuple[str, ...]]:
    """Commands by which the engine is where it was, at each balancer that can be told."""
    found = {}
    for name, place in now.places.items():
        then, own = before.places[name].tracks_of(engine), place.tracks_of(engine)
        commands = [_command(now.pool, track, engine, "maint") for track in own if track not in then]
        commands += [_command(now.pool, track, engine, "ready") for track in then if track not in own]
        if commands:
            found[name] = tuple(commands)
    return found


def _last(place: Place, engine: str) -> bool:
    seats = place.seats.get(STABLE, {})
    if engine not in seats or not seats[engine].enabled:
        return False
    return not any(one.enabled and one.running for name, one in seats.items() if name != engine)


def _command(pool: str, track: str, engine: str, state: str) -> str:
    return f"set server {backend_of(pool, track)}/{engine} state {state}"
