"""Is an engine to get requests, and what is to be done about it. Pure; times in seconds of a clock that never goes back.

Progress is any change of what the engine core reports, or a token of our own. Gauges alone say little: they stay as they were when
the core stops, and read 0 when it stopped idle. So whenever nothing has moved for a moment, the engine is asked for one token;
from then on something is certain to be due.
"""

from dataclasses import replace

from rackserve.health.figures import Figures
from rackserve.health.looks import Decision, Look, Memory, Page, Rules, State, Token

# How often the page is read, and how long nothing may have moved in a busy engine before it is asked for a token.
LOOK_SECONDS = 1.0
QUIET_SECONDS = 1.5
# A page that is broken, or a question that fails, counts from the second one in a row.
FAILURES = 2
# A warm-up that takes longer says nothing any more.
WARM_UP_SECONDS = 60.0
# Standing still for want of a processor is forgiven for so long in all.
STARVED_SECONDS = 30.0
_BUSY = 503
_SOON_SECONDS = 0.2
# What is said of each state; of all others: down.
_WORDS = {State.SERVING: True, State.NEW: None}


def limit_seconds(memory: Memory, rules: Rules) -> float:
    """How long nothing may move in an engine that has work. Before the longest step is known, the deadline stands for it."""
    step = memory.warm.step_seconds if memory.warm else None
    return rules.stall_seconds + (rules.token_deadline_seconds if step is None else step)


def deadline_seconds(memory: Memory, rules: Rules) -> float:
    """How long one token may take in an idle engine: what is declared, but never less than twice what a warm one needs."""
    return max(rules.token_deadline_seconds, 2 * memory.warm.token_seconds if memory.warm else 0.0)


def deadline_is_short(memory: Memory, rules: Rules) -> bool:
    return memory.warm is not None and rules.token_deadline_seconds < 2 * memory.warm.token_seconds


def stalled_seconds(memory: Memory, at: float) -> float:
    """Since something last moved, or since the engine was first heard of."""
    begin = memory.moved if memory.moved is not None else memory.heard
    return 0.0 if begin is None else at - begin


def starved_seconds(memory: Memory, look: Look) -> float:
    """How long a process has waited for a processor since something moved in the engine; the longest of them."""
    waits = (seconds - memory.waited.get(process, seconds) for process, seconds in look.waited.items())
    return min(max(waits, default=0.0), STARVED_SECONDS)


def decide(memory: Memory, look: Look, rules: Rules) -> Decision:
    """Guards in the order of certainty: gone, no answer in time, errors, then what only a warm engine can be judged by."""
    if look.page is Page.REFUSED:
        gone = Memory(restarts=memory.restarts, fresh=True)
        return _said(memory, gone, look, rules, State.ABSENT, f"nobody listens on port {rules.port}", asks=False)
    known = _absorbed(memory, look)
    if reason := _hangs(known, look, rules):
        return _hung(memory, known, look, rules, reason)
    if memory.state is State.HUNG and not _is_back(known, look):
        return _hung(memory, known, look, rules, f"nothing has moved for {look.at - memory.since:.0f} s more")
    if known.broken >= FAILURES:
        reason = f"its page of metrics failed {known.broken} times in a row"
        return _said(memory, known, look, rules, State.FAILING, reason, asks=False)
    if known.failed >= FAILURES:
        reason = f"{known.failed} questions in a row failed: {known.mute}"
        return _said(memory, known, look, rules, State.FAILING, reason)
    return _alive(memory, known, look, rules)


def _absorbed(memory: Memory, look: Look) -> Memory:
    """What this look adds to what was known."""
    new = memory
    if any(one is not None for one in (look.token, look.token_out, look.warm_up, look.warm_up_out)):
        new = replace(new, ours=True)
    if look.page is Page.READ and look.figures is not None:
        new = _read(new, look, look.figures)
    if look.page is Page.BROKEN:
        new = replace(new, broken=new.broken + 1)
    if look.token is not None:
        new = _answered(new, look.token, look.at)
    if look.warm_up is not None:
        new = replace(new, warm=look.warm_up)
    return new


def _read(memory: Memory, look: Look, figures: Figures) -> Memory:
    new = memory
    if None not in (new.started, figures.started) and new.started != figures.started:
        # One that began while the probe did not watch may serve already, so it is not taken out for a warm-up.
        new = Memory(state=new.state, since=new.since, restarts=new.restarts, fresh=memory.figures is not None)
    before, ours = new.figures, new.ours
    heard = look.at if new.heard is None else new.heard
    out = look.token_out is not None or look.warm_up_out is not None
    new = replace(new, figures=figures, started=figures.started, heard=heard, broken=0, ours=out)
    if before is None or before.marks == figures.marks:
        return new
    return replace(new, moved=look.at, waited=look.waited, traffic=new.traffic if ours else look.at, failed=0)


def _answered(memory: Memory, token: Token, at: float) -> Memory:
    if token.came:
        heard = at if memory.heard is None else memory.heard
        return replace(memory, moved=at, heard=heard, failed=0, mute="")
    if token.status is None:
        return memory
    if token.status == _BUSY:
        return replace(memory, busy=at, failed=0, mute="")
    failed = memory.failed + 1 if token.status >= 500 else 0
    return replace(memory, failed=failed, mute=f"HTTP {token.status} {token.detail}".strip())


def _blind(known: Memory) -> bool:
    return known.figures is not None and not known.figures.counts_tokens


def _judged(known: Memory) -> bool:
    """It counts tokens and lets itself be asked."""
    return not _blind(known) and not (known.mute and known.failed == 0)


def _is_back(known: Memory, look: Look) -> bool:
    """It moved just now; of one that cannot be judged, the page came."""
    return known.moved == look.at or (look.page is Page.READ and not _judged(known))


def _hangs(known: Memory, look: Look, rules: Rules) -> str:
    """Why it hangs; empty when it does not, or when nobody can tell."""
    limit, now = limit_seconds(known, rules), look.at - starved_seconds(known, look)
    if look.page_out is not None and now - look.page_out >= limit:
        return f"its page of metrics has not come for {look.at - look.page_out:.1f} s"
    # Judged by a page of this moment only, or what moved since the last one would be overlooked.
    if look.page is not Page.READ or _blind(known):
        return ""
    moved = known.moved if known.moved is not None else known.heard
    if moved is None:
        return ""
    if look.warm_up_out is not None:
        still = look.at - max(moved, look.warm_up_out)
        return f"nothing has moved for {still:.0f} s of its warm-up" if still >= WARM_UP_SECONDS else ""
    out = look.token_out
    if not _busy(known, look):
        late = out is not None and out >= moved and now - out >= deadline_seconds(known, rules)
        return f"one token has not come for {look.at - (out or 0):.1f} s" if late else ""
    # Something is certain to be due: our own question, or those that leave no room for it.
    if (out is not None or _full(known)) and now - moved >= limit:
        return f"requests wait and nothing has moved for {look.at - moved:.1f} s (limit {limit:.1f} s)"
    return ""


def _full(known: Memory) -> bool:
    """Our last question found no room, and nothing has moved since."""
    return known.busy is not None and (known.moved is None or known.busy > known.moved)


def _busy(known: Memory, look: Look) -> bool:
    """Has work of others: by its gauges, by its answer, or because it was at work when it last moved."""
    if known.moved is None or known.figures is None:
        return False
    own = 1 if look.token_out is not None else 0
    at_work = known.traffic is not None and known.moved - known.traffic <= QUIET_SECONDS
    return at_work or _full(known) or known.figures.running + known.figures.waiting > own


def _hung(memory: Memory, known: Memory, look: Look, rules: Rules, reason: str) -> Decision:
    since = memory.since if memory.state is State.HUNG else look.at
    recent = tuple(at for at in known.restarts if look.at - at < rules.restart_window_seconds)
    spent = len(recent) >= rules.restarts_at_most
    due = look.at - max((since, *recent)) >= rules.restart_after_seconds
    restart = due and not spent
    known = replace(known, restarts=(*recent, look.at) if restart else recent)
    if due and spent:
        reason += f"; restarted {len(recent)} times within {rules.restart_window_seconds:.0f} s, so it stays out"
    said = _said(memory, known, look, rules, State.HUNG, reason)
    return replace(said, restart=restart, restart_limit=due and spent)


def _alive(memory: Memory, known: Memory, look: Look, rules: Rules) -> Decision:
    judged = _judged(known)
    if judged and known.moved is None:
        state = State.STARTING if known.fresh else State.NEW
        return _said(memory, known, look, rules, state, "has not moved yet")
    cold = judged and known.warm is None
    idle = look.token_out is None and not _busy(known, look)
    begins = cold and look.warm_up_out is None and (known.fresh or idle)
    if cold and known.fresh:
        said = _said(memory, known, look, rules, State.STARTING, "is being warmed up", asks=False)
        return replace(said, warm_up=begins)
    reason = "moves" if judged else f"cannot be judged: {known.mute or 'its page has no counter of tokens'}"
    said = _said(memory, replace(known, fresh=False), look, rules, State.SERVING, reason, asks=not begins)
    return replace(said, warm_up=begins)


def _said(
    before: Memory, known: Memory, look: Look, rules: Rules, state: State, reason: str, asks: bool = True
) -> Decision:
    known = replace(known, state=state, since=before.since if state is before.state else look.at)
    return Decision(
        known,
        _WORDS.get(state, False),
        reason,
        ask=asks and _asks(known, look, rules),
        next_seconds=_next_seconds(known, look, rules),
    )


def _asks(known: Memory, look: Look, rules: Rules) -> bool:
    """One question at a time; soon where work may be stuck, now and then where nothing is to be expected."""
    if look.token_out is not None or look.warm_up_out is not None or look.page is not Page.READ:
        return False
    if known.state is not State.SERVING:
        return True
    return stalled_seconds(known, look.at) >= (QUIET_SECONDS if _busy(known, look) else rules.idle_seconds)


def _next_seconds(known: Memory, look: Look, rules: Rules) -> float:
    """Not later than the moment at which the limit would be reached, and soon after something broke."""
    if look.page is Page.BROKEN:
        return _SOON_SECONDS
    left = limit_seconds(known, rules) - stalled_seconds(known, look.at)
    return min(LOOK_SECONDS, max(left, _SOON_SECONDS)) if left > 0 else LOOK_SECONDS
