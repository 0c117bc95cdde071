"""Which effects a state consists of, in their order. Pure: the same plan and record give the same list, so a place in it is enough
to go on after a crash. Every effect may be repeated.

An engine changes its track or its release only when it is drained, and is undrained only after its check. Shares follow the number
of engines on each side, so that all have equal load while engines are promoted.
"""

from collections.abc import Callable

from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Act, Effect, Record, State
from rackserve.canary.run.world import NOTHING, Share, Track


def tasks(plan: Plan, record: Record) -> tuple[Effect, ...]:
    return _TASKS.get(record.at, _none)(plan, record)


def flipping(plan: Plan, record: Record) -> bool:
    """Every engine runs the release; what is left is to bring them to stable."""
    return record.where is State.PROMOTING and record.turn >= len(plan.order)


def last_turn(plan: Plan, record: Record) -> bool:
    """The last engine of the old release leaves: from its drain on stable has none."""
    return record.at is State.PROMOTING and record.turn == len(plan.order) - 1


def turns(plan: Plan) -> int:
    """Of promotion: each engine but the canary's gets the release, then each but the last comes to stable."""
    return 2 * len(plan.order)


def to_share(share: Share) -> Effect:
    return Effect(act=Act.SHARE, share=share)


def _part(canaries: int, engines: int) -> Effect:
    return to_share(Share(canary=round(1000 * canaries / engines)))


def _to_track(engine: str, track: Track) -> tuple[Effect, ...]:
    """Of a drained engine."""
    return (Effect(act=Act.MOVE, engine=engine, track=track), Effect(act=Act.UNDRAIN, engine=engine))


def _to_release(engine: str, release: str) -> tuple[Effect, ...]:
    return (
        Effect(act=Act.DRAIN, engine=engine),
        Effect(act=Act.START, engine=engine, release=release),
        Effect(act=Act.CHECK, engine=engine, release=release),
    )


def _none(plan: Plan, record: Record) -> tuple[Effect, ...]:
    return ()


def _claim(plan: Plan, record: Record) -> tuple[Effect, ...]:
    return (Effect(act=Act.CLAIM),)


def _unclaim(plan: Plan, record: Record) -> tuple[Effect, ...]:
    return (Effect(act=Act.UNCLAIM),)


def _prepare(plan: Plan, record: Record) -> tuple[Effect, ...]:
    found = [
        Effect(act=Act.INSTALL, engine=plan.canary, release=plan.release),
        *_to_release(plan.canary, plan.release),
        *_to_track(plan.canary, "canary"),
    ]
    if plan.baseline:
        found += [Effect(act=Act.DRAIN, engine=plan.baseline), *_to_track(plan.baseline, "baseline")]
    return tuple(found)


def _smoke(plan: Plan, record: Record) -> tuple[Effect, ...]:
    # Claimed again: a run that was silent for too long comes through here before its share may rise.
    return (
        Effect(act=Act.CLAIM),
        Effect(act=Act.SMOKE, engine=plan.canary),
        Effect(act=Act.QUALITY, engine=plan.canary),
    )


def _step(plan: Plan, record: Record) -> tuple[Effect, ...]:
    return (to_share(plan.levels[record.level].share),)


def _promote(plan: Plan, record: Record) -> tuple[Effect, ...]:
    if flipping(plan, record):
        return _flip(plan, record.turn - len(plan.order))
    engine, number, canaries = plan.order[record.turn], len(plan.engines), record.turn + 1
    last = last_turn(plan, record)
    return (
        Effect(act=Act.INSTALL, engine=engine, release=plan.release),
        _part(canaries, number - 1),
        *_to_release(engine, plan.release),
        # Nothing of the old release is left in stable then: the last one is its first engine of the new.
        *_to_track(engine, "stable" if last else "canary"),
        _part(canaries + (not last), number),
    )


def _flip(plan: Plan, turn: int) -> tuple[Effect, ...]:
    number = len(plan.engines)
    engine, left = (plan.canary, *plan.order)[turn], number - 2 - turn
    return (
        _part(left, number - 1),
        Effect(act=Act.DRAIN, engine=engine),
        *_to_track(engine, "stable"),
        _part(left, number),
    )


def _back(plan: Plan, record: Record) -> tuple[Effect, ...]:
    """One value at every balancer first; then the engines, the one that was taken last first."""
    number = len(plan.engines)
    found: list[Effect] = [] if record.gradual else [to_share(NOTHING)]
    if plan.baseline and plan.baseline not in record.touched:
        found += [Effect(act=Act.DRAIN, engine=plan.baseline), *_to_track(plan.baseline, "stable")]
    for place, engine in reversed(list(enumerate(record.touched))):
        if record.gradual:
            found.append(_part(place, number - 1))
        found += [*_to_release(engine, plan.before), *_to_track(engine, "stable")]
        if record.gradual:
            found.append(_part(place, number))
    return tuple(found)


_TASKS: dict[State, Callable[[Plan, Record], tuple[Effect, ...]]] = {
    State.PREFLIGHT: _claim,
    State.PREPARING: _prepare,
    State.SMOKE: _smoke,
    State.STEP: _step,
    State.LOAD_PARITY: _step,
    State.PROMOTING: _promote,
    State.ROLLING_BACK: _back,
    State.ROLLED_BACK: _unclaim,
    State.DONE: _unclaim,
}
