"""What comes next in a run. Pure: record, sight, verdict and time in, the next record and at most one effect out.

The guards stand in the order of danger: a person's word, a canary that fails, balancers that differ, somebody who cannot be asked,
a hold; and only then the state's own next step. Nothing goes forward past a guard.
"""

from dataclasses import dataclass

from rackserve.canary.judge.verdict import Verdict
from rackserve.canary.run.adrift import drifted, reconciled
from rackserve.canary.run.after import intended
from rackserve.canary.run.goto import back, entered, halted, held, observing, released, settling, told
from rackserve.canary.run.orders import ordered
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.preflight import objections
from rackserve.canary.run.record import BY_HAND, Effect, Moment, Phase, Record, State, Why
from rackserve.canary.run.tasks import flipping, last_turn, tasks, turns
from rackserve.canary.run.world import Seen, Share

_ENDING = (State.ROLLING_BACK, State.ROLLED_BACK, State.DONE)


@dataclass(frozen=True)
class Next:
    record: Record
    effect: Effect | None = None


def decide(plan: Plan, record: Record, seen: Seen, verdict: Verdict, now: Moment) -> Next:
    if waiting := [order for order in seen.orders if order.name not in record.answers]:
        return Next(ordered(plan, record, seen, waiting[0], now))
    if record.over:
        return Next(record)
    if lost := _lost(plan, record, seen, now):
        return Next(lost)
    if record.exposed and verdict.outcome == "fail" and not flipping(plan, record):
        found = back(plan, record, seen, verdict.reason, now, dead=bool(death(plan, record, seen)))
        # Halted already, and nowhere to go: nothing new to tell.
        return Next(record if record.at is State.HALTED and found.at is State.HALTED else found)
    if record.adrift:
        return Next(*reconciled(plan, record, seen, now))
    if record.at is State.HALTED:
        return Next(record)
    if record.at in _ENDING or flipping(plan, record):
        return _act(plan, record, seen, now)
    return _guarded(plan, record, seen, verdict, now)


def _lost(plan: Plan, record: Record, seen: Seen, now: Moment) -> Record | None:
    """Somebody else has the pool: nothing is touched any more. Or a person took the share back: the engines follow it."""
    if record.at in (*_ENDING, State.PREFLIGHT):
        return None
    if seen.taken and record.at is not State.HALTED:
        return halted(plan, record, f"The run has lost its pool: {seen.taken}.")
    if seen.stopped and not flipping(plan, record) and record.where is not State.ROLLING_BACK:
        return back(plan, record, seen, f"Its share was taken back: {seen.stopped}.", now)
    return None


def _guarded(plan: Plan, record: Record, seen: Seen, verdict: Verdict, now: Moment) -> Next:
    if record.at is not State.PREFLIGHT and (said := drifted(plan, record, seen)):
        if record.hold and record.hold.why is Why.EDITED:
            return Next(record)
        # A resume accepts what is there; until then nothing is made larger.
        return Next(held(plan, record.model_copy(update={"adrift": True}), Why.EDITED, said))
    if down := _fallen(plan, record, seen):
        return Next(halted(plan, record, down))
    if unasked := _unasked(seen):
        by_hand = record.hold is not None and record.hold.why in BY_HAND
        # Its watchdog may take the share back before it can be asked again.
        record = record.model_copy(update={"adrift": record.exposed and bool(seen.unreachable)})
        return Next(record if by_hand else held(plan, record, Why.BALANCER, unasked))
    record = released(record, Why.BALANCER)
    if record.exposed and seen.totals is None:
        said = f"figures do not come, and nothing rises without: {seen.no_figures}"
        return Next(record if record.hold and record.hold.why in BY_HAND else held(plan, record, Why.SOURCE, said))
    record = released(record, Why.SOURCE)
    if alone := _without_control(plan, record, seen):
        held_already = record.hold is not None and record.hold.why in (*BY_HAND, Why.CONTROL)
        # What is counted now says nothing about before, nor about later.
        return Next(record if held_already else held(plan, settling(plan, record, now), Why.CONTROL, alone))
    if record.hold and record.hold.why is Why.CONTROL:
        return Next(settling(plan, released(record, Why.CONTROL), now))
    if record.hold and record.hold.why in (*BY_HAND, Why.GATE):
        return Next(record)
    match record.phase:
        case Phase.ACT:
            return _act(plan, record, seen, now)
        case Phase.SETTLE:
            settled = now.after(record.began) >= plan.settle_seconds
            return Next(observing(plan, _known(plan, record, seen), now) if settled else record)
        case Phase.OBSERVE:
            return Next(_observed(plan, record, verdict, now))


def _fallen(plan: Plan, record: Record, seen: Seen) -> str:
    """Promotion's own rule: an engine that got the release and does not stay up stops it, and nothing moves."""
    if record.at is not State.PROMOTING or not seen.balancers:
        return ""
    for engine in (plan.canary, *plan.order[: record.turn]):
        if not any(engine in each.up for each in seen.balancers.values()):
            return (
                f"Engine {engine} runs {plan.release} and its checks fail at {', '.join(seen.balancers)}. Engines of either release "
                "that are healthy serve on"
            )
    return ""


def _without_control(plan: Plan, record: Record, seen: Seen) -> str:
    """A canary that is compared with errors looks good. Before promotion somebody healthy has to serve what it is compared with."""
    if record.at not in (State.STEP, State.LOAD_PARITY) or record.phase is Phase.ACT:
        return ""
    for name, each in seen.balancers.items():
        serving = [engine for engine, track in each.tracks.items() if track == record.control and engine in each.up]
        if not [engine for engine in serving if engine not in each.drained]:
            return f"at balancer {name} no engine of {record.control} is up, so there is nothing to compare the canary with"
    return ""


def _unasked(seen: Seen) -> str:
    told = [f"balancer {name} could not be asked: {why}" for name, why in seen.unreachable.items()]
    told += [f"balancer {name} is being changed: {each.busy}" for name, each in seen.balancers.items() if each.busy]
    return "; ".join(told or ([] if seen.balancers else ["no balancer answers"]))


def _known(plan: Plan, record: Record, seen: Seen) -> Record:
    """With the process that is judged from now on: one that starts anew in the middle of it is not taken for it."""
    engine = seen.engines.get(plan.canary)
    if record.identity or engine is None:
        return record
    return record.model_copy(update={"identity": engine.started})


def _act(plan: Plan, record: Record, seen: Seen, now: Moment) -> Next:
    script = tasks(plan, record)
    if record.task >= len(script):
        return Next(_completed(plan, record, seen, now))
    effect = script[record.task]
    if effect.share is not None and (record.at is State.ROLLING_BACK or flipping(plan, record)):
        # On these ways the share only falls, whatever it was when they began.
        low = Share(
            canary=min(effect.share.canary, record.share.canary),
            baseline=min(effect.share.baseline, record.share.baseline),
        )
        effect = effect.model_copy(update={"share": low})
    return Next(intended(plan, record, effect), effect)


def _completed(plan: Plan, record: Record, seen: Seen, now: Moment) -> Record:
    match record.at:
        case State.PREFLIGHT:
            if said := objections(plan, seen).said:
                return entered(record, State.ROLLED_BACK, now, reason=f"Nothing was changed: {said}")
            found = entered(record, State.PREPARING, now)
            return told(plan, found, "started", f"{plan.release} on pool {plan.pool}, tried on engine {plan.canary}")
        case State.PREPARING:
            return entered(record, State.SMOKE, now)
        case State.SMOKE:
            return _advanced(plan, _known(plan, record, seen), now)
        case State.STEP | State.LOAD_PARITY:
            return settling(plan, record, now)
        case State.PROMOTING:
            return _promoted(plan, record, now)
        case State.ROLLING_BACK if record.troubles:
            told_why = "; ".join(record.troubles)
            said = f"{record.reason} The share is back, and not every engine: {told_why}. scripts/canary resume tries again."
            return halted(plan, record, said)
        case State.ROLLING_BACK:
            found = entered(record, State.ROLLED_BACK, now)
            return told(plan, found, "rolled_back", f"Every engine is back on {plan.before}. {record.reason}")
        case _:
            return record.model_copy(update={"over": True})


def _promoted(plan: Plan, record: Record, now: Moment) -> Record:
    if record.turn + 1 == turns(plan):
        found = entered(record, State.DONE, now, reason=f"Pool {plan.pool} runs {plan.release}.")
        return told(plan, found, "promoted", found.reason)
    if flipping(plan, record) or last_turn(plan, record):
        return _next_turn(plan, record)
    return settling(plan, record, now)


def _next_turn(plan: Plan, record: Record) -> Record:
    return record.model_copy(update={"turn": record.turn + 1, "task": 0, "phase": Phase.ACT, "intent": None})


def _observed(plan: Plan, record: Record, verdict: Verdict, now: Moment) -> Record:
    least = plan.settle_seconds if record.at is State.PROMOTING else plan.observe_seconds
    if verdict.outcome == "pass" and now.after(record.began) >= least:
        return _advanced(plan, released(record, Why.EVIDENCE), now)
    if verdict.outcome == "inconclusive" and now.after(record.limit_began) >= plan.observe_limit_seconds:
        return held(plan, record, Why.EVIDENCE, _missing(plan, record, verdict, now))
    return record


def _missing(plan: Plan, record: Record, verdict: Verdict, now: Moment) -> str:
    """Stable while nothing changes, so that it is told once."""
    if record.hold and record.hold.why is Why.EVIDENCE and record.hold.reason.startswith(verdict.reason):
        return record.hold.reason
    offer = "It goes on by itself once there is enough; resume starts the time anew, abort goes back."
    return f"{verdict.reason} {offer}"


def _advanced(plan: Plan, record: Record, now: Moment) -> Record:
    """To the next share, or promotion. Called only with a pass, or after the smoke tests."""
    if record.at is State.PROMOTING:
        # A watch in the middle of an engine's turn, after a crash, is no end of it.
        unfinished = record.task < len(tasks(plan, record))
        return record.model_copy(update={"phase": Phase.ACT}) if unfinished else _next_turn(plan, record)
    level = record.level + 1
    if level == len(plan.levels) and plan.trial:
        return entered(record, State.ROLLING_BACK, now, reason="The trial is over, and nothing was found.")
    if level == len(plan.levels):
        found = entered(record, State.PROMOTING, now, turn=0)
        return told(plan, found, "step", f"promoting {plan.release}, engine by engine")
    new = plan.levels[level]
    if new.gate is not None and record.approved < level:
        said = f"{new.name} needs an approval: scripts/canary approve {plan.run} --step {new.gate:g}"
        return held(plan, record, Why.GATE, said)
    found = entered(record, State.LOAD_PARITY if new.parity else State.STEP, now, level=level)
    return told(plan, found, "step", f"{new.name}: {new.share}")


def death(plan: Plan, record: Record, seen: Seen) -> str:
    """What says that the canary serves nobody, or is not what was started; empty: nothing. Needs no figures."""
    if not record.exposed or not seen.balancers or flipping(plan, record):
        return ""
    trying = [plan.canary, *plan.order[: record.turn]] if record.where is State.PROMOTING else [plan.canary]
    if not any(engine in each.up for each in seen.balancers.values() for engine in trying):
        return f"the checks of {', '.join(trying)} fail at {', '.join(seen.balancers)}"
    engine = seen.engines.get(plan.canary)
    if engine is None or engine.release is None:
        return ""
    if engine.release != plan.release:
        return f"engine {plan.canary} runs {engine.release}, not {plan.release}"
    if record.identity and engine.started != record.identity:
        return f"engine {plan.canary} was started anew while it was judged"
    return ""
