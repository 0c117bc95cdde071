"""Balancers that may differ from each other or from the record: after a crash, after a call that reached only some of them, after
somebody else's hand. They are made equal at the lower side, so no user meets the canary who did not meet it before; and from there
the run goes on as from any share: it is judged before it rises. Pure.
"""

from rackserve.canary.run.after import intended
from rackserve.canary.run.goto import back, carried, entered, held, lowest, old_ones, released, settling, shares
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import BY_HAND, Act, Effect, Moment, Phase, Record, State, Why
from rackserve.canary.run.tasks import flipping, to_share
from rackserve.canary.run.world import NOTHING, Seen, Share


def resumed(plan: Plan, record: Record, now: Moment) -> Record:
    """The first thing that a new process makes of what it found in the journal."""
    if record.over:
        return record
    news: dict[str, object] = {"adrift": True}
    if record.at is State.SMOKE:
        # What was found out before is of another time; it opens the way to users, so it is found out anew.
        news |= {"task": 0, "intent": None}
    if record.adrift:
        # What was on its way was to make them equal; that begins anew.
        news["intent"] = None
    if record.began.boot != now.boot:
        news |= {"began": now, "limit_began": now, "marked": now}
    found = record.model_copy(update=news)
    if found.at is State.PROMOTING and not flipping(plan, found) and found.phase is Phase.ACT:
        # Nothing is promoted further before the new process has judged what it found.
        intent = found.intent
        found = settling(plan, found, now).model_copy(update={"intent": intent})
    return found


def reconciled(plan: Plan, record: Record, seen: Seen, now: Moment) -> tuple[Record, Effect | None]:
    """The record, and the effect that has to come first."""
    if record.at is State.PREFLIGHT:
        # The pool may be somebody else's still.
        return record.model_copy(update={"adrift": False}), None
    if record.at is State.HALTED:
        return _resting(plan, record, seen)
    if record.at in (State.ROLLING_BACK, State.DONE, State.ROLLED_BACK) or flipping(plan, record):
        # Their tasks make balancers equal by themselves, and only ever lower.
        return _low(record, seen).model_copy(update={"adrift": False}), None
    known = shares(seen)
    if seen.unreachable or not known:
        return _until_all_answer(plan, record, seen, known)
    intent = record.intent
    if intent and intent.act is Act.SHARE and intent.share is not None and all(one == intent.share for one in known):
        return _was_done(plan, record, intent.share, now), None
    low = lowest(known)
    if record.at is State.PROMOTING and low.canary == 0 and old_ones(plan, record, seen):
        reason = "The share was taken to 0 while engines were promoted, by the watchdog or by hand."
        return back(plan, record, seen, reason, now), None
    if record.at is State.PROMOTING and low.canary == 0:
        # Stable has nobody: to leave it at 0 would be to send users nowhere.
        return _making(plan, record, record.share), to_share(record.share)
    level, target = _place(plan, record, low)
    if any(one != target for one in known):
        return _making(plan, record, target), to_share(target)
    return _standing(plan, record, level, target, now), None


def _resting(plan: Plan, record: Record, seen: Seen) -> tuple[Record, Effect | None]:
    """Halted: nothing moves, but balancers do not differ either, where the lower share is one that stable can bear."""
    found = _low(record, seen)
    equal = all(one == found.share for one in shares(seen))
    if equal or seen.unreachable or not (found.share.canary or carried(plan, record, seen)):
        return found.model_copy(update={"adrift": False}), None
    return _making(plan, found, found.share), to_share(found.share)


def _until_all_answer(plan: Plan, record: Record, seen: Seen, known: list[Share]) -> tuple[Record, Effect | None]:
    why = "; ".join(f"balancer {name} could not be asked: {reason}" for name, reason in seen.unreachable.items())
    if not (record.hold and record.hold.why in BY_HAND):
        record = held(plan, record, Why.BALANCER, f"{why or 'no balancer answers'}. It goes on when all of them answer")
    low = lowest([*known, record.share])
    if any(one != low for one in known):
        return _making(plan, record, low), to_share(low)
    return record, None


def _making(plan: Plan, record: Record, target: Share) -> Record:
    return intended(plan, record.model_copy(update={"adrift": True}), to_share(target))


def _was_done(plan: Plan, record: Record, share: Share, now: Moment) -> Record:
    news = {"share": share, "task": record.task + 1, "intent": None, "adrift": False}
    found = released(record.model_copy(update=news), Why.BALANCER, Why.EFFECT)
    return settling(plan, found, now) if share.canary else found


def _low(record: Record, seen: Seen) -> Record:
    return record.model_copy(update={"share": lowest([*shares(seen), record.share])})


def _place(plan: Plan, record: Record, low: Share) -> tuple[int, Share]:
    """The level to be at, and its share: never above what every balancer has."""
    if record.at is State.PROMOTING:
        return record.level, low
    if record.at not in (State.STEP, State.LOAD_PARITY):
        return -1, NOTHING
    fitting = [
        number
        for number, level in enumerate(plan.levels[: record.level + 1])
        if level.share.canary <= low.canary and level.share.baseline <= low.baseline
    ]
    return (fitting[-1], plan.levels[fitting[-1]].share) if fitting else (-1, NOTHING)


def _standing(plan: Plan, record: Record, level: int, share: Share, now: Moment) -> Record:
    """Every balancer has this share."""
    found = released(record, Why.BALANCER, Why.EFFECT).model_copy(update={"adrift": False, "share": share})
    if found.intent and found.intent.act is Act.SHARE:
        found = found.model_copy(update={"intent": None})
    if record.at not in (State.STEP, State.LOAD_PARITY):
        return settling(plan, found, now) if record.at is State.PROMOTING and share != record.share else found
    if level < 0:
        return entered(found, State.SMOKE, now, level=-1, share=NOTHING, hold=found.hold)
    at = State.LOAD_PARITY if plan.levels[level].parity else State.STEP
    if level == record.level and share == record.share and found.phase is not Phase.ACT:
        return found
    return settling(plan, found.model_copy(update={"level": level, "at": at, "task": 1}), now)


def drifted(plan: Plan, record: Record, seen: Seen) -> str:
    """What somebody else changed, or nothing. A share on its way is no surprise."""
    if record.intent and record.intent.act is Act.SHARE:
        return ""
    for name, each in seen.balancers.items():
        if each.live != record.share or each.file != record.share:
            file = "" if each.file == each.live else f", its file says {each.file}"
            return (
                f"balancer {name} gives the pool {each.live}{file}, and this run had set {record.share}: "
                "somebody else changed it (a watchdog does, when the run was silent)"
            )
        if record.at in (State.STEP, State.LOAD_PARITY):
            for engine, track in ((plan.canary, "canary"), (plan.baseline, "baseline")):
                if engine and each.tracks.get(engine) != track:
                    return f"at balancer {name} engine {engine} is in {each.tracks.get(engine)}, and this run put it in {track}"
    return ""
