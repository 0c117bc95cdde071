"""From one state to another: the only places where a record changes its state. Pure."""

from typing import Any, Literal

from rackserve.canary.run.figures import fresh
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import CARRYING, Hold, Moment, Phase, Record, State, Why
from rackserve.canary.run.world import Event, Seen, Share

Kind = Literal["started", "step", "held", "approved", "rolled_back", "promoted", "halted", "traffic"]


def told(plan: Plan, record: Record, kind: Kind, said: str, before: str = "", after: str = "") -> Record:
    event = Event(kind=kind, run=plan.run, pool=plan.pool, by=plan.by, said=said, before=before, after=after)
    return record.model_copy(update={"untold": (*record.untold, event)})


def entered(record: Record, at: State, now: Moment, **more: Any) -> Record:
    news = {"at": at, "phase": Phase.ACT, "task": 0, "intent": None, "hold": None, "began": now, "halted_from": None}
    return record.model_copy(update=news | more)


def begun(now: Moment) -> Record:
    """A run that has done nothing yet."""
    return Record(at=State.PREFLIGHT, began=now, limit_began=now, marked=now)


def held(plan: Plan, record: Record, why: Why, reason: str) -> Record:
    """Told once for each cause, not for each of its wordings."""
    changed = record.model_copy(update={"hold": Hold(why=why, reason=reason)})
    same = record.hold is not None and record.hold.why is why
    return changed if same else told(plan, changed, "held", reason)


def released(record: Record, *which: Why) -> Record:
    return record.model_copy(update={"hold": None}) if record.hold and record.hold.why in which else record


def halted(plan: Plan, record: Record, reason: str) -> Record:
    news = {
        "at": State.HALTED,
        "halted_from": record.halted_from or record.at,
        "intent": None,
        "hold": None,
        "reason": reason,
    }
    return told(plan, record.model_copy(update=news), "halted", reason)


def settling(plan: Plan, record: Record, now: Moment) -> Record:
    """After a shift: what is counted now shows only what is broken outright."""
    found = fresh(plan, record, record.share, now)
    news = {"phase": Phase.SETTLE, "intent": None, "began": now, "limit_began": now}
    return found.model_copy(update=news)


def observing(plan: Plan, record: Record, now: Moment) -> Record:
    found = fresh(plan, record, record.share, now)
    return found.model_copy(update={"phase": Phase.OBSERVE, "began": now, "limit_began": now})


def shares(seen: Seen) -> list[Share]:
    """All that balancers have, running and on disk."""
    return [share for each in seen.balancers.values() for share in (each.live, each.file)]


def lowest(known: list[Share]) -> Share:
    return Share(canary=min(one.canary for one in known), baseline=min(one.baseline for one in known))


def old_ones(plan: Plan, record: Record, seen: Seen) -> list[str]:
    """Engines of the release from before that serve as stable: some balancer sends requests there and its checks pass."""

    def runs_it(name: str) -> bool:
        engine = seen.engines.get(name)
        return name not in record.touched if engine is None or engine.release is None else engine.release == plan.before

    return [
        name
        for name in plan.engines
        if runs_it(name)
        and any(
            each.tracks.get(name) == "stable" and name in each.up and name not in each.drained
            for each in seen.balancers.values()
        )
    ]


def carried(plan: Plan, record: Record, seen: Seen) -> bool:
    """Stable could take all of the traffic at once. Before promotion it has what preflight counted; then it shrinks."""
    least = plan.fewest if _under_promotion(record) else 1
    return len(old_ones(plan, record, seen)) >= least


def may_fall_back(plan: Plan, record: Record, seen: Seen) -> bool:
    """The same for a watchdog that acts later: the engine whose turn it is may be gone by then."""
    if record.where is not State.PROMOTING:
        return carried(plan, record, seen)
    going = plan.order[record.turn : record.turn + 1]
    return len([name for name in old_ones(plan, record, seen) if name not in going]) >= max(plan.fewest, 1)


def _under_promotion(record: Record) -> bool:
    return record.where is State.PROMOTING or record.gradual


def back(plan: Plan, record: Record, seen: Seen, reason: str, now: Moment, dead: bool = False) -> Record:
    """On the way to the release from before. Traffic is never sent to a stable that cannot take it, because it is called stable:
    then the engines go back one by one, each taking its part along; where stable has nobody at all, a person has to look."""
    promoting = _under_promotion(record)
    old = old_ones(plan, record, seen)
    if seen.balancers and not old and not promoting and not dead and record.where in CARRYING:
        return halted(plan, record, f"{reason} But no engine of stable is up, so the canary keeps its share.")
    gradual = promoting and not carried(plan, record, seen) and not (dead and old)
    way = " Stable cannot carry all, so engines go back one by one." if gradual else ""
    share = lowest([*shares(seen), record.share]) if old else record.share
    found = entered(
        record, State.ROLLING_BACK, now, reason=reason, gradual=gradual, adrift=False, share=share, troubles=()
    )
    return told(plan, found, "rolled_back", f"Rolling back: {reason}{way}")
