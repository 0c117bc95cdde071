"""Drives a run: looks, judges, decides, writes the intent down, does it, writes the result down. Killed at any point, the next
process goes on from what it sees and from what is on disk."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from rackserve.canary.judge.verdict import Outcome as Said
from rackserve.canary.judge.verdict import Verdict, judge
from rackserve.canary.run.adrift import resumed
from rackserve.canary.run.after import after
from rackserve.canary.run.decide import death, decide
from rackserve.canary.run.figures import counted, fair
from rackserve.canary.run.goto import held, may_fall_back
from rackserve.canary.run.journal import Journal, JournalError
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Act, Effect, Moment, Record, State, Why
from rackserve.canary.run.timeline import Checked, Told, look
from rackserve.canary.run.world import NOTHING, Beat, Ended, Outcome, Seen, World

LOOK_SECONDS = 1.0
# So that one lost beat, or two, are no silence yet.
_BEATS = 4
_CHECKS = (Act.CHECK, Act.SMOKE, Act.QUALITY)
_ANSWERS: dict[Ended, Said] = {Ended.DONE: "pass", Ended.FAILED: "fail", Ended.UNDONE: "source_unreachable"}
_NOBODY = Verdict("inconclusive", "No user is on the canary.")
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Tell = Callable[[str], None]


def moment() -> Moment:
    """Now, by a clock that goes on while the machine sleeps, and that nobody sets."""
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Moment(boot=_BOOT.read_text().strip(), seconds=seconds, wall=time.time())


class Controller:
    """Of one run. `tell` gets a line when something changes."""

    def __init__(
        self,
        plan: Plan,
        record: Record,
        journal: Journal,
        world: World,
        tell: Tell,
        clock: Callable[[], Moment] = moment,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.plan, self.record = plan, record
        self._written: Record | None = None
        self._journal, self._world, self._tell = journal, world, tell
        self._clock, self._sleep = clock, sleep
        self._beaten: Moment | None = None
        self._falls_back = True
        self._answered: set[str] = set()
        self._said = ""
        self._heard = Beat()

    def run(self) -> Record:
        """Until the run is over, or halted without a user on the canary. Does not raise for what can happen in operation."""
        while not self._ended():
            if not self.tick():
                self._sleep(LOOK_SECONDS)
        return self.record

    def _ended(self) -> bool:
        return self.record.over or (
            self.record.at is State.HALTED and self.record.share == NOTHING and not self._asked()
        )

    def _asked(self) -> bool:
        return bool(self._journal.orders(self.record.answers))

    def tick(self) -> bool:
        """One look and what follows from it. Whether there may be more to do at once."""
        now = self._clock()
        seen = replace(self._world.observe(), orders=self._journal.orders(self.record.answers), **asdict(self._heard))
        self._beat(seen, now)
        # What was counted counts, whether it could be written down or not.
        self.record, verdict = self._judged(seen, now)
        record = self.record
        chosen = decide(self.plan, record, seen, verdict, now)
        if not self._wrote(chosen.record, record, verdict):
            return False
        if chosen.effect is None:
            return (
                chosen.record.at is not record.at
                or chosen.record.task != record.task
                or chosen.record.adrift != record.adrift
            )
        outcome = self._do(chosen.effect)
        if chosen.effect.act in _CHECKS and outcome.kind in _ANSWERS:
            name, at = str(chosen.effect), self._clock().wall
            self._journal.note(Checked(at=at, name=name, outcome=_ANSWERS[outcome.kind], reason=outcome.reason))
        kept = self._wrote(after(self.plan, chosen.record, chosen.effect, outcome, self._clock()), record, verdict)
        if outcome.kind is not Ended.DONE:
            self._line(f"{chosen.effect}: {outcome.reason or outcome.kind.value}")
        return kept and outcome.kind is Ended.DONE

    def _beat(self, seen: Seen, now: Moment) -> None:
        """Also under a hold, and when the journal cannot be written: the canary is judged, so it may stay."""
        if self.record.at is State.PREFLIGHT or self.record.over:
            return
        fall_back = may_fall_back(self.plan, self.record, seen)
        early = self._beaten is not None and now.after(self._beaten) < self.plan.watchdog_seconds / _BEATS
        if early and fall_back is self._falls_back:
            return
        self._heard = self._world.beat(self.plan.claim, self.plan.watchdog_seconds, fall_back)
        self._beaten, self._falls_back = now, fall_back

    def _judged(self, seen: Seen, now: Moment) -> tuple[Record, Verdict]:
        if not self.record.exposed:
            return self.record, _NOBODY
        dead = death(self.plan, self.record, seen)
        record, window = counted(self.plan, self.record, seen, now, dead)
        return record, judge(window, self.plan.rules(latency=fair(record)))

    def _wrote(self, record: Record, judged: Record, verdict: Verdict) -> bool:
        """Puts it on disk where it differs, and it counts from then on. False: it could not be written, and nothing may be done."""
        before, written = self.record, self._written
        if record == written:
            return True
        told = record.untold
        try:
            self._journal.put(record)
        except JournalError as error:
            self._line(f"held: {error}")
            # To take users off the canary needs no paper: whoever comes next sees it at the balancers.
            if record.at is State.ROLLING_BACK and before.share != NOTHING and not record.gradual:
                self._world.set_share(NOTHING)
            return False
        self.record = self._written = record.model_copy(update={"untold": ()}) if told else record
        for event in told:
            self._world.tell(event)
            self._journal.note(Told(at=self._clock().wall, event=event))
            self._line(event.said if event.kind != "traffic" else f"{event.said}: {event.before} -> {event.after}")
        self._reply()
        self._note(written, judged, verdict)
        return True

    def _reply(self) -> None:
        for name, said in self.record.answers.items():
            if name not in self._answered:
                self._journal.answer(name, said)
                self._answered.add(name)

    def _note(self, before: Record | None, judged: Record, verdict: Verdict) -> None:
        record = self.record
        shown = (record.state, record.over, record.level, record.share, record.mark)
        if before and shown == (before.state, before.over, before.level, before.share, before.mark):
            return
        self._journal.note(look(self._clock().wall, record, judged, verdict))

    def _line(self, said: str) -> None:
        if said != self._said:
            self._tell(said)
        self._said = said

    def _do(self, effect: Effect) -> Outcome:
        world, engine, claim = self._world, effect.engine, self.plan.claim
        match effect.act:
            case Act.CLAIM:
                return world.claim(claim)
            case Act.UNCLAIM:
                return world.unclaim(claim)
            case Act.SHARE:
                return world.set_share(effect.share or NOTHING)
            case Act.DRAIN:
                return world.drain(engine)
            case Act.UNDRAIN:
                return world.undrain(engine)
            case Act.MOVE:
                return world.move(engine, effect.track or "stable")
            case Act.INSTALL:
                return world.install(engine, effect.release)
            case Act.START:
                return world.start(engine, effect.release)
            case Act.CHECK:
                return world.check(engine, effect.release)
            case Act.SMOKE:
                return world.smoke(engine)
            case Act.QUALITY:
                return world.quality(engine, self.plan.baseline or self.plan.order[0])


def taken_up(
    journal: Journal,
    world: World,
    tell: Tell,
    clock: Callable[[], Moment] = moment,
    sleep: Callable[[float], None] = time.sleep,
) -> Controller:
    """The run of this journal goes on. Raises JournalError where nobody can say where it stands."""
    found = journal.read()
    record = resumed(found.plan, found.record, clock())
    if found.damaged and not record.over:
        said = (
            f"the newest of the journal is damaged ({'; '.join(found.damaged)}), so the run may be further than it knows. Look at "
            "scripts/status; then scripts/canary resume or abort"
        )
        record = held(found.plan, record, Why.JOURNAL, said)
    return Controller(found.plan, record, journal, world, tell, clock, sleep)
