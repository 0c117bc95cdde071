"""Which requests go where: the claim on the pool, its shares, engines in and out of service and from track to track."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rackserve.canary.moves import engines as tracks
from rackserve.canary.moves import runs, shares
from rackserve.canary.moves.decide import Kind as Moving
from rackserve.canary.moves.runs import Pulse
from rackserve.canary.moves.share import Share as Given
from rackserve.canary.run.world import DONE, NOTHING, Beat, Claim, Ended, Outcome, Share, Track
from rackserve.canary.world.jobs import of_error
from rackserve.canary.world.site import Site
from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain import back, out
from rackserve.fleet.drain import observe as drains
from rackserve.fleet.drain.decide import Kind, next_step
from rackserve.fleet.drain.records import Hold, InOtherHands
from rackserve.fleet.drain.sight import Sight
from rackserve.fleet.errors import FleetError
from rackserve.fleet.ssh import Host

# Longer than the longest answer: a request may begin in the moment before the drain.
_ON_TOP_SECONDS = 30.0


@dataclass
class Traffic:
    """`began`: when this process first said it, by verb and engine."""

    site: Site
    run: str
    by: str
    watchdog_seconds: float
    clock: Callable[[], float] = time.monotonic
    began: dict[tuple[str, str], float] = field(default_factory=dict)

    def claim(self, claim: Claim) -> Outcome:
        """Balancer by balancer: where one cannot be asked, the record of a run on its way stays at the others."""
        site = self.site

        def one(host: Host) -> Pulse:
            alone = replace(site.split, balancers=[host])
            return runs.begin(alone, claim.run, claim.by, self.watchdog_seconds, claim.release)

        outcome = on_each(site.split.balancers, one)
        taken = {name: why for pulse in outcome.done.values() for name, why in pulse.taken.items()}
        failed = {name: error for pulse in outcome.done.values() for name, error in pulse.failed.items()}
        if taken:
            told = [host for host in site.split.balancers if outcome.done[host.name].told]
            # A balancer at which the pool still has a share keeps it.
            runs.end(replace(site.split, balancers=told), claim.run)
            return Outcome(Ended.FAILED, _at(taken))
        return _of_all({**outcome.failed, **failed})

    def unclaim(self, claim: Claim) -> Outcome:
        """A balancer at which another run stands has none of this one's."""
        return _of_all(runs.end(self.site.split, claim.run).failed)

    def beat(self, claim: Claim, silent_seconds: float, fall_back: bool) -> Beat:
        pulse = runs.beat(self.site.split, claim.run, silent_seconds, fall_back)
        stopped = {name: f"{one.by} has stopped it: {one.why}" for name, one in pulse.stopped.items() if one.final}
        return Beat(_at(pulse.taken), _at(stopped))

    def set_share(self, share: Share) -> Outcome:
        """Given or taken back at every balancer that answers, whatever the others do."""
        if share == NOTHING:
            outcome = shares.take_back(self.site.split, shares.Word(self.by, f"run {self.run}", stop=False))
            undone = {name: "; ".join(one.undone) for name, one in outcome.done.items() if one.undone}
            undone |= {name: str(error) for name, error in outcome.failed.items()}
            return Outcome(Ended.UNDONE, _at(undone)) if undone else DONE
        wanted = Given(share.canary, share.baseline)
        # Promotion has no baseline, and goes on to all of the traffic.
        promoting = share.baseline == 0
        try:
            given = shares.give(self.site.split, wanted, self.run, self.by, promoting=promoting, partly=True)
        except shares.ShareRefused as error:
            return Outcome(Ended.FAILED, str(error))
        failed = {name: str(error) for name, error in {**given.failed, **given.left}.items()}
        return Outcome(Ended.UNDONE, _at(failed)) if failed else DONE

    def move(self, engine: str, track: Track) -> Outcome:
        seen = drains.observe(self.site.fleet, (engine,))
        if refusal := self._not_out(seen, engine):
            return refusal
        try:
            moved = tracks.move(self.site.split, engine, track, wait_seconds=0)
        except FleetError as error:
            return of_error(error)
        if moved.kind is not Moving.DONE:
            return Outcome(Ended.UNDONE if moved.kind is Moving.UNKNOWN else Ended.FAILED, moved.said)
        if moved.unsaved:
            return Outcome(Ended.UNDONE, f"{moved.said}, but its state is not saved: {_at(moved.unsaved)}")
        return DONE

    def drain(self, engine: str) -> Outcome:
        """As scripts/drain, but without asking whether the pool can do without it: the run has counted that."""
        self.began.pop(("undrain", engine), None)
        seen = drains.observe(self.site.fleet, (engine,))
        if not seen.balancers:
            return Outcome(Ended.UNDONE, _at(seen.unreachable) or "there is no balancer")
        elapsed = self._elapsed("drain", engine)
        step = next_step(seen, (engine,), elapsed, self.longest_seconds, cut=False, force=False)
        if step.kind is Kind.SET:
            try:
                self._tell_drained(engine, step.balancers)
            except InOtherHands as error:
                return Outcome(Ended.UNDONE, str(error))
            except FleetError as error:
                return of_error(error)
            return Outcome(Ended.DOING, step.reason)
        if seen.unreachable:
            return Outcome(Ended.UNDONE, _at(seen.unreachable))
        if step.kind is Kind.DONE:
            self.began.pop(("drain", engine), None)
            return DONE
        if step.kind is Kind.WAIT:
            return Outcome(Ended.DOING, step.reason)
        self.began.pop(("drain", engine), None)
        return Outcome(Ended.UNDONE if step.kind is Kind.UNKNOWN else Ended.FAILED, step.reason)

    def undrain(self, engine: str) -> Outcome:
        """Its proof and its warm-up come before (check). Coming out of maintenance it starts slowly."""
        self.began.pop(("drain", engine), None)
        seen = drains.observe(self.site.fleet, (engine,))
        if seen.unreachable or not seen.balancers:
            return Outcome(Ended.UNDONE, _at(seen.unreachable) or "there is no balancer")
        elapsed = self._elapsed("undrain", engine)
        where = [name for name, each in seen.balancers.items() if engine in each.engines and each.engines[engine].out]
        try:
            if where:
                self._tell_ready(seen, engine, where)
                return Outcome(Ended.DOING, f"requests come again at {', '.join(where)}")
            missing = back.missing_at(seen, (engine,))
            if not missing:
                hold = self._taken(engine, "returning")
                hold.drop((engine,))
                self.began.pop(("undrain", engine), None)
                return DONE
        except InOtherHands as error:
            return Outcome(Ended.UNDONE, str(error))
        except FleetError as error:
            return of_error(error)
        if elapsed > back.patience_seconds(self.site.fleet, (engine,)):
            self.began.pop(("undrain", engine), None)
            return Outcome(Ended.FAILED, "; ".join(missing))
        return Outcome(Ended.DOING, "; ".join(missing))

    @property
    def longest_seconds(self) -> float:
        """Of an answer of the pool, and a little."""
        plan = self.site.plan
        pool = plan["pools"][self.site.pool]
        lanes = [float(plan["lanes"][lane]["generation_timeout_seconds"]) for lane in pool["lanes"]]
        return max([float(pool["timeouts"]["generation_seconds"]), *lanes]) + _ON_TOP_SECONDS

    def out_of_service(self, engine: str) -> Outcome | None:
        """None: no balancer sends requests there, and nothing runs."""
        return self._not_out(drains.observe(self.site.fleet, (engine,)), engine)

    def _not_out(self, seen: Sight, engine: str) -> Outcome | None:
        if seen.unreachable or not seen.balancers:
            return Outcome(Ended.UNDONE, _at(seen.unreachable) or "there is no balancer")
        step = next_step(seen, (engine,), self.longest_seconds, 0, cut=False, force=False)
        if step.kind is Kind.DONE:
            return None
        kind = Ended.UNDONE if step.kind is Kind.UNKNOWN else Ended.FAILED
        return Outcome(kind, f"{engine} is not out of service: {step.reason}")

    def _elapsed(self, verb: str, engine: str) -> float:
        return self.clock() - self.began.setdefault((verb, engine), self.clock())

    def _taken(self, engine: str, step: str) -> Hold:
        """Raises InOtherHands, FleetError."""
        hold = out.hold_of(self.site.fleet)
        hold.take((engine,), step, time.time(), f"canary run {self.run}")
        return hold

    def _tell_drained(self, engine: str, balancers: tuple[str, ...]) -> None:
        """The record says to others who has taken it out. Raises InOtherHands, FleetError."""
        hold = self._taken(engine, "draining")
        try:
            out.set_state(self.site.fleet, balancers, (engine,), "drain")
        finally:
            hold.leave((engine,), step="drained")

    def _tell_ready(self, seen: Sight, engine: str, balancers: list[str]) -> None:
        hold = self._taken(engine, "returning")
        try:
            hosts = [host for host in self.site.fleet.balancers if host.name in balancers]
            back.ready(self.site.fleet, seen, (engine,), hosts)
        finally:
            hold.leave((engine,), step="returning")


def _at(said: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in said.items())


def _of_all(failed: Mapping[str, FleetError]) -> Outcome:
    if not failed:
        return DONE
    return Outcome(Ended.UNDONE, "; ".join(str(error) for error in failed.values()))
