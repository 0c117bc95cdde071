"""What scripts/rollback says, and the exit code that it comes to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackserve.canary.moves.decide import Wrong, differences
from rackserve.canary.moves.share import NONE, shown
from rackserve.canary.moves.sight import Back, Place, Sight

DONE, FAILED, UNKNOWN, REFUSED = 0, 1, 3, 4


@dataclass(frozen=True)
class Told:
    """`lines`: what is to be known; the last one is the outcome."""

    code: int
    lines: tuple[str, ...]


def told(pool: str, back: Mapping[str, Back], failed: Mapping[str, tuple[int, str]], seconds: float) -> Told:
    """After a line for each balancer that answered. `failed`: balancer -> exit code and reason of what could not be asked."""
    lines = [f"{name}: NOT DONE: {why}" for name, (_, why) in failed.items()]
    undone = [name for name, one in back.items() if one.undone]
    for run in dict.fromkeys(one.run for one in back.values() if one.run):
        lines.append(f"run {run} gets no share any more")
    if refused := [name for name, one in back.items() if one.refused]:
        lines.append(
            f"{pool}: refused at {', '.join(refused)}. Bring an engine of stable into service first; a run that promotes its release "
            "goes back engine by engine. --force does it all the same"
        )
        return Told(REFUSED, tuple(lines))
    if undone or failed:
        names = ", ".join([*undone, *failed])
        lines.append(
            f"{pool}: {names} may still send requests to the canary, or do so again. Run it again until it says 0 everywhere. "
            "A balancer that is switched off sends nothing; run it again as soon as it is back, because it keeps its share on disk."
        )
        return Told(FAILED if undone else min(code for code, _ in failed.values()), tuple(lines))
    if not any(one.changed for one in back.values()):
        lines.append(f"{pool}: nothing to do: no share was given to a canary at {', '.join(back)}")
    else:
        lines.append(f"{pool}: no new request goes to the canary at {', '.join(back)} ({seconds:.2f} s)")
    return Told(DONE, tuple(lines))


def line(one: Back, hard: bool) -> str:
    """Of one balancer."""
    if one.undone:
        return f"NOT DONE: {'; '.join(one.undone)}"
    if one.changed:
        before = f"{shown(one.live_before)} -> 0"
        if one.live_before != one.file_before:
            before += f" (its file said {shown(one.file_before)})"
    else:
        before = "0, as before"
    if one.changed and one.stable and one.stable[0] * 2 < one.stable[1]:
        before += f"; stable has {one.stable[0]} of {one.stable[1]} engines in service"
    return f"{before}{_left(one, hard)}"


def _left(one: Back, hard: bool) -> str:
    if one.running is None:
        return "; how much still runs on the canary is not known"
    found = f"; {'not ended in time' if hard else 'let end'}: {one.running} running there" if one.running else ""
    found += f"; queued there already, and served there: {one.waiting}" if one.waiting else ""
    found += f"; in processes from before a reload: {one.old_running}" if one.old_running else ""
    if one.old_error:
        found += f"; processes from before a reload could not be asked: {one.old_error}"
    return found


def planned(seen: Sight, hard: bool) -> Told:
    """Of a dry run: how it is, and what would be done."""
    lines = []
    for name, place in seen.places.items():
        count = place.in_flight("canary")
        running = f"; running or queued there, to be {'ended' if hard else 'let end'}: {count}" if count else ""
        lines.append(f"{name}: {_now(place)}{running}")
        if place.run is not None and place.run.stopped is None:
            lines.append(f"{name}: run {place.run.run} of {place.run.by} would get no share any more")
    wrong = differences(seen)
    lines += [one.text for one in wrong]
    names = [name for name, place in seen.places.items() if place.share != NONE or place.filed != NONE]
    what = f"the share would go to 0 at {', '.join(names)}" if names else "nothing to do: no share is given to a canary"
    lines.append(f"{seen.pool}: dry run: {what}")
    return Told(UNKNOWN if any(one.kind is Wrong.UNREACHABLE for one in wrong) else DONE, tuple(lines))


def _now(place: Place) -> str:
    live = "not known" if place.live_error else shown(place.live)
    return live if place.live == place.file and not place.file_error else f"{live}; in its file {shown(place.file)}"


def listed(back: Mapping[str, Back], failed: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """For programs."""
    done = {name: {**one.model_dump(), "undone": list(one.undone)} for name, one in back.items()}
    return {"balancers": done, "failed": {name: why for name, (_, why) in failed.items()}}


def listed_sight(seen: Sight) -> dict[str, Any]:
    return {
        "balancers": {
            name: {
                "live": place.live,
                "file": place.file,
                "canary_requests": place.in_flight("canary"),
                "run": place.run.model_dump() if place.run else None,
            }
            for name, place in seen.places.items()
        },
        "failed": dict(seen.unreachable),
        "differences": [{"kind": one.kind, "balancer": one.balancer, "text": one.text} for one in differences(seen)],
    }
