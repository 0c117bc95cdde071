"""What a person's order makes of the run. Pure. Each is answered once, with what came of it."""

from typing import Any

from rackserve.canary.run.goto import back, entered, told
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Hold, Moment, Record, State, Why
from rackserve.canary.run.tasks import flipping
from rackserve.canary.run.world import Order, Seen


def ordered(plan: Plan, record: Record, seen: Seen, order: Order, now: Moment) -> Record:
    """The record with the order done or refused; `answers` says which."""
    if order.run != plan.run:
        return _answered(record, order, f"refused: this is run {plan.run}, not {order.run}")
    if record.over or record.at in (State.DONE, State.ROLLED_BACK):
        return _answered(record, order, f"refused: the run is over: {record.at.value}")
    match order.kind:
        case "pause":
            return _pause(record, order)
        case "resume":
            return _resume(record, order, now)
        case "approve":
            return _approve(plan, record, order)
        case "abort":
            return _abort(plan, record, seen, order, now)


def _answered(record: Record, order: Order, said: str) -> Record:
    return record.model_copy(update={"answers": {**record.answers, order.name: said}})


def _pause(record: Record, order: Order) -> Record:
    if record.at in (State.ROLLING_BACK, State.HALTED):
        return _answered(record, order, f"refused: the run is {record.at.value.replace('_', ' ')}; that is not paused")
    hold = Hold(why=Why.PAUSED, reason=f"paused by {order.by}")
    return _answered(record.model_copy(update={"hold": hold}), order, "paused; the canary is judged on")


def _resume(record: Record, order: Order, now: Moment) -> Record:
    if record.at is State.HALTED and record.halted_from:
        news: dict[str, Any] = {
            "at": record.halted_from,
            "halted_from": None,
            "adrift": True,
            "intent": None,
            "limit_began": now,
        }
        if record.halted_from is State.ROLLING_BACK:
            news |= {"task": 0, "troubles": ()}
        return _answered(record.model_copy(update=news), order, f"goes on with {record.halted_from.value}")
    if record.hold is None:
        return _answered(record, order, "refused: nothing is held")
    if record.hold.why is Why.GATE:
        return _answered(record, order, f"refused: a gate opens by approve. {record.hold.reason}")
    again = record.model_copy(update={"hold": None, "limit_began": now})
    return _answered(again, order, "goes on")


def _approve(plan: Plan, record: Record, order: Order) -> Record:
    level = record.level + 1
    waits = record.hold is not None and record.hold.why is Why.GATE and level < len(plan.levels)
    gate = plan.levels[level].gate if waits else None
    if gate is None:
        return _answered(record, order, "refused: the run waits for no approval")
    if order.step != gate:
        asked = "no step" if order.step is None else f"{order.step:g} %"
        return _answered(record, order, f"refused: it waits for an approval of {gate:g} %, and {asked} was named")
    found = record.model_copy(update={"approved": level, "hold": None})
    return _answered(told(plan, found, "approved", f"{gate:g} % approved by {order.by}"), order, f"{gate:g} % approved")


def _abort(plan: Plan, record: Record, seen: Seen, order: Order, now: Moment) -> Record:
    if record.at is State.ROLLING_BACK:
        return _answered(record, order, "it is rolling back already")
    if record.at is State.PREFLIGHT:
        reason = f"Aborted by {order.by} before anything was changed."
        return _answered(entered(record, State.ROLLED_BACK, now, reason=reason), order, "aborted; nothing was changed")
    if flipping(plan, record):
        said = f"refused: every engine runs {plan.release} by now: scripts/rollback --to {plan.before} goes back"
        return _answered(record, order, said)
    found = back(plan, record, seen, f"Aborted by {order.by}.", now)
    said = "rolling back" if found.at is State.ROLLING_BACK else found.reason
    return _answered(found, order, said)
