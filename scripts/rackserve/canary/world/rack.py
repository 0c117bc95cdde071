"""run.world.World on a real fleet: each verb is in the module that knows it."""

from collections.abc import Callable

from rackserve.canary.quality.prompts import Reference
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.world import Beat, Claim, Event, Outcome, Seen, Share, Track
from rackserve.canary.world.engines import Engines
from rackserve.canary.world.hooks import Hooks
from rackserve.canary.world.jobs import Jobs
from rackserve.canary.world.sight import observe
from rackserve.canary.world.site import Site
from rackserve.canary.world.traffic import Traffic
from rackserve.canary.world.trials import Trials


class Rack:
    """Of one run. `say`: for lines that belong to no event."""

    def __init__(self, site: Site, plan: Plan, reference: Reference, say: Callable[[str], None]) -> None:
        self._site = site
        jobs = Jobs()
        self._traffic = Traffic(site, plan.run, plan.by, plan.watchdog_seconds)
        self._engines = Engines(site, jobs, self._traffic.out_of_service)
        self._trials = Trials(site, jobs, plan.release, reference, plan.same_model, plan.run)
        self._hooks = Hooks(site.canary.hooks, say)

    def observe(self) -> Seen:
        return observe(self._site)

    def claim(self, claim: Claim) -> Outcome:
        return self._traffic.claim(claim)

    def unclaim(self, claim: Claim) -> Outcome:
        return self._traffic.unclaim(claim)

    def beat(self, claim: Claim, silent_seconds: float, fall_back: bool) -> Beat:
        return self._traffic.beat(claim, silent_seconds, fall_back)

    def set_share(self, share: Share) -> Outcome:
        return self._traffic.set_share(share)

    def drain(self, engine: str) -> Outcome:
        return self._traffic.drain(engine)

    def undrain(self, engine: str) -> Outcome:
        return self._traffic.undrain(engine)

    def move(self, engine: str, track: Track) -> Outcome:
        return self._traffic.move(engine, track)

    def install(self, engine: str, release: str) -> Outcome:
        return self._engines.install(engine, release)

    def start(self, engine: str, release: str) -> Outcome:
        return self._engines.start(engine, release)

    def check(self, engine: str, release: str) -> Outcome:
        return self._engines.check(engine, release)

    def smoke(self, engine: str) -> Outcome:
        return self._trials.smoke(engine)

    def quality(self, canary: str, baseline: str) -> Outcome:
        return self._trials.quality(canary, baseline)

    def tell(self, event: Event) -> None:
        self._hooks.tell(event)

    def close(self) -> None:
        """Waits, for a moment, until those who are told have it."""
        self._hooks.wait()
