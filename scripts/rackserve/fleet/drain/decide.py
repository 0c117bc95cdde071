"""Whether engines may be taken out, and what comes next. Pure: sight in, decision with its reason out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rackserve.fleet.drain.sight import Engine, Page, Peak, Sight
from rackserve.fleet.period import words


class Verdict(StrEnum):
    GO = "go"
    REFUSED = "refused"  # a rule of the house says no
    UNKNOWN = "unknown"  # somebody who has to be asked does not answer


@dataclass(frozen=True)
class Permission:
    """`reasons`: against it; with GO those that were overridden. `notes`: what one should know."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Kind(StrEnum):
    SET = "set"  # some balancer still sends requests there: say drain to it
    WAIT = "wait"
    CUT = "cut"  # end what still runs
    HELD = "held"  # the time is up and requests still run: they go on, the engines stay out
    UNKNOWN = "unknown"  # the time is up and not everybody could be asked
    DONE = "done"


@dataclass(frozen=True)
class Step:
    """`streams`: what the balancers count on the engines; None: nobody could say. `balancers`: with SET, whom to tell."""

    kind: Kind
    reason: str
    streams: int | None
    seconds_left: float
    balancers: tuple[str, ...] = ()


# Balancers say zero, the engine says nothing, and its checks fail: after this there is nothing to wait for.
SILENT_SECONDS = 5.0
# Sessions end within a moment of being told so.
CUT_SECONDS = 10.0
_UNASKED = Page(None, error="it was not asked")


def may_drain(seen: Sight, names: Sequence[str], force: bool) -> Permission:
    """Nothing is overridden silently: with `force` every reason against it is still told. Who else is at work on it shows when the
    records are taken."""
    notes: list[str] = []
    unknown = _unreachable(seen)
    refused: list[str] = []
    for pool in dict.fromkeys(seen.engines[name].pool for name in names):
        leaving = [one for one in seen.of_pool(pool) if one.name in names]
        refused += _tried(seen, pool)
        said, guess, note = _pool(seen, pool, leaving)
        refused += said
        unknown += guess
        notes += note
    if force:
        return Permission(Verdict.GO, (*refused, *unknown), tuple(notes))
    if refused:
        return Permission(Verdict.REFUSED, (*refused, *unknown), tuple(notes))
    if unknown:
        return Permission(Verdict.UNKNOWN, tuple(unknown), tuple(notes))
    return Permission(Verdict.GO, (), tuple(notes))


def _unreachable(seen: Sight) -> list[str]:
    found = [
        f"balancer {name} could not be asked and would go on sending requests: {why}"
        for name, why in seen.unreachable.items()
    ]
    found += [
        f"balancer {each.name}: processes from before a reload could not be asked: {each.old_unknown}"
        for each in seen.balancers.values()
        if each.old_unknown
    ]
    return found


def _tried(seen: Sight, pool: str) -> list[str]:
    """A drain during a canary would take away what its figures are compared with, or the canary itself."""
    found = [f"{name}: {each.shares[pool]}" for name, each in seen.balancers.items() if pool in each.shares]
    if not found:
        return []
    return [
        f"a release is being tried in the pool {pool} (canary/baseline in thousandths of its requests at {', '.join(found)}). "
        "Wait for the end of its run, or --force."
    ]


def _pool(seen: Sight, pool: str, leaving: Sequence[Engine]) -> tuple[list[str], list[str], list[str]]:
    """Reasons to refuse, what is not known, notes."""
    names = ", ".join(one.name for one in leaving)
    if not any(seen.serving(one.name) for one in leaving):
        return [], [], [f"{names}: no requests go there as it is, so the pool {pool} loses nothing"]
    if seen.maintained(pool):
        return [], [], [f"pool {pool} is in maintenance: its clients are told so, whoever is left"]
    rest = [one for one in seen.of_pool(pool) if one not in leaving and seen.serving(one.name)]
    if not rest:
        return (
            [
                f"{names}: the last in service of the pool {pool}. Announce it first: scripts/maintenance on {pool} "
                "--for 30m answers clients with the planned end; then drain. Or --force."
            ],
            [],
            [],
        )
    slots = sum(one.slots for one in rest)
    peak = seen.peaks.get(pool, "it was not asked")
    if not isinstance(peak, Peak):
        return (
            [],
            [f"whether the rest of the pool {pool} ({slots} slots) carries a day's peak is not known: {peak}"],
            [],
        )
    told = f"the most of the last day in pool {pool} was {peak.requests:g} requests at a time"
    if peak.known_seconds < 23 * 3600:
        told += f" (of which {words(peak.known_seconds)} are known)"
    left = f"{', '.join(one.name for one in rest)} with {slots} slots"
    if peak.requests > slots:
        return [f"{told}; what would be left is {left}. Drain at a quieter time, or --force."], [], []
    return [], [], [f"{told}; {left} stay"]


def next_step(
    seen: Sight, names: Sequence[str], elapsed_seconds: float, deadline_seconds: float, cut: bool, force: bool
) -> Step:
    """One step on the way out. `elapsed_seconds` since the engines were first told."""
    left = deadline_seconds - elapsed_seconds
    streams = sum(seen.streams(name) for name in names) if seen.balancers else None
    sending = tuple(
        each.name
        for each in seen.balancers.values()
        if any(name in each.engines and not each.engines[name].out for name in names)
    )
    if sending:
        return Step(Kind.SET, f"{', '.join(sending)} may still send requests there", streams, left, sending)
    blind = [] if force and seen.balancers else _unreachable(seen)
    if blind:
        kind = Kind.WAIT if left > 0 else Kind.UNKNOWN
        return Step(kind, blind[0], streams, left)
    busy = _busy(seen, names, elapsed_seconds)
    if not busy:
        return Step(Kind.DONE, "balancers and engines agree: nothing runs there", 0, left)
    told = "; ".join(busy.values())
    if left > 0:
        return Step(Kind.WAIT, told, streams, left)
    if cut and left > -CUT_SECONDS:
        return Step(Kind.CUT if streams else Kind.WAIT, f"the time is up: {told}", streams, left)
    return Step(Kind.HELD, told, streams, left)


def _busy(seen: Sight, names: Sequence[str], elapsed_seconds: float) -> Mapping[str, str]:
    """Engine -> what still runs there, as far as anybody says."""
    found = {}
    for name in names:
        page, streams = seen.pages.get(name, _UNASKED), seen.streams(name)
        own = "nobody listens there" if page.gone else page.error if page.requests is None else f"{page.requests:g}"
        if streams:
            found[name] = f"{name}: {streams} requests by the balancers; the engine says: {own}"
        elif page.requests:
            found[name] = f"{name}: none by the balancers, but the engine runs {page.requests:g}: somebody else asks it"
        elif page.requests is None and not page.gone and (_up(seen, name) or elapsed_seconds < SILENT_SECONDS):
            found[name] = f"{name}: none by the balancers; the engine does not say: {own}"
    return found


def _up(seen: Sight, name: str) -> bool:
    """Some balancer's checks say that it is alive."""
    return any(each.engines[name].running for each in seen.balancers.values() if name in each.engines)
