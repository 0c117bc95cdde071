"""What an effect's outcome makes of the record. Pure."""

from rackserve.canary.run.figures import fresh
from rackserve.canary.run.goto import entered, halted, held, released, told
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Act, Effect, Moment, Record, State, Why
from rackserve.canary.run.tasks import tasks
from rackserve.canary.run.world import Ended, Outcome, Share


def intended(plan: Plan, record: Record, effect: Effect) -> Record:
    """With the effect on it, as it is on disk before the effect is done."""
    found = record.model_copy(update={"intent": effect})
    away = effect.act is Act.DRAIN and record.at in (State.PREPARING, State.PROMOTING)
    if away and effect.engine != plan.baseline and record.at is State.PREPARING:
        return _touched(found, effect.engine)
    if away and record.at is State.PROMOTING and record.turn < len(plan.order):
        return _touched(found, effect.engine)
    return found


def _touched(record: Record, engine: str) -> Record:
    if engine in record.touched:
        return record
    return record.model_copy(update={"touched": (*record.touched, engine)})


def after(plan: Plan, record: Record, effect: Effect, outcome: Outcome, now: Moment) -> Record:
    """`record` is the one that `intended` gave."""
    if outcome.kind is Ended.DOING:
        return released(record, Why.EFFECT)
    if outcome.kind is Ended.FAILED:
        return _failed(plan, record, effect, outcome, now)
    if outcome.kind is Ended.UNDONE:
        return _undone(plan, record, effect, outcome)
    found = released(record, Why.EFFECT)
    if effect.act is Act.SHARE and effect.share is not None:
        return _shared(plan, found, effect.share, now)
    return found.model_copy(update={"task": found.task + 1, "intent": None})


def _shared(plan: Plan, record: Record, share: Share, now: Moment) -> Record:
    before = record.share
    found = fresh(plan, record, share, now).model_copy(update={"share": share, "intent": None})
    if before != share:
        found = told(plan, found, "traffic", f"share of pool {plan.pool}", str(before), str(share))
    # Making equal what had drifted is no task of the state's.
    return found if found.adrift else found.model_copy(update={"task": found.task + 1})


def _undone(plan: Plan, record: Record, effect: Effect, outcome: Outcome) -> Record:
    reason = f"{effect}: {outcome.reason}"
    if record.at in (State.ROLLING_BACK, State.ROLLED_BACK, State.DONE):
        # Said again until it is done; it is no hold.
        return record
    raised = effect.share is not None and effect.share.canary > record.share.canary
    if effect.act is Act.SHARE and (raised or record.adrift):
        # Some balancers may have it. The lower side holds until all of them answer.
        record = record.model_copy(update={"adrift": True, "intent": None})
    return held(plan, record, Why.EFFECT, reason)


def _failed(plan: Plan, record: Record, effect: Effect, outcome: Outcome, now: Moment) -> Record:
    reason = f"{effect}: {outcome.reason}"
    match record.at:
        case State.PREFLIGHT:
            # Nothing was changed, and the claim is somebody else's.
            return entered(record, State.ROLLED_BACK, now, task=1, over=True, reason=outcome.reason)
        case State.PREPARING | State.SMOKE:
            found = entered(record, State.ROLLING_BACK, now, reason=reason)
            return told(plan, found, "rolled_back", f"Rolling back: {reason}")
        case State.ROLLED_BACK | State.DONE:
            return record.model_copy(update={"task": record.task + 1, "intent": None, "reason": reason})
        case State.ROLLING_BACK if record.gradual:
            # Each engine has to take its part of the traffic along, so none is passed over.
            return halted(plan, record, f"{reason}. Before: {record.reason}")
        case State.ROLLING_BACK:
            return _passed_over(plan, record, effect, reason)
        case _:
            return halted(plan, record, reason)


def _passed_over(plan: Plan, record: Record, effect: Effect, reason: str) -> Record:
    """No user is on it any more, and the other engines are waited for: a dead one does not keep them out."""
    script = tasks(plan, record)
    later = (place for place in range(record.task, len(script)) if script[place].engine != effect.engine)
    news = {"task": next(later, len(script)), "intent": None, "troubles": (*record.troubles, reason)}
    return record.model_copy(update=news)
