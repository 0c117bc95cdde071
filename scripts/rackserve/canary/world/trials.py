"""What is asked of the release before users see it: smoke on the forced route, and the reference prompts."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from rackserve.canary.quality.answers import Sheet
from rackserve.canary.quality.ask import Engine, ask
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.rules import rules_of
from rackserve.canary.quality.verdict import judge
from rackserve.canary.run.world import Ended, Outcome
from rackserve.canary.smoke.run import Route, Trial, smoke
from rackserve.canary.world.jobs import Jobs
from rackserve.canary.world.site import Site
from rackserve.canary.world.tunnel import through
from rackserve.fleet.errors import FleetError
from rackserve.fleet.ssh import Host

SMOKE_SECONDS, QUALITY_SECONDS = 600.0, 3000.0
_ANSWER_SECONDS = 60.0
_TOOL_FLAGS = ("enable-auto-tool-choice", "tool-call-parser")
# To find out takes nothing but another try; a person looks at the rest.
_KINDS = {
    "pass": Ended.DONE,
    "fail": Ended.FAILED,
    "inconclusive": Ended.UNDONE,
    "source_unreachable": Ended.UNDONE,
}

Say = Callable[[str], None]


@dataclass
class Trials:
    """`reference`: the prompts. `same_model`: only the software or its flags are new. `salt`: makes prompts of this run its own."""

    site: Site
    jobs: Jobs
    release: str
    reference: Reference
    same_model: bool
    salt: str

    def smoke(self, engine: str) -> Outcome:
        return self.jobs.ask(
            ("smoke", engine), lambda say: self._smoked(say), SMOKE_SECONDS, "smoke on the forced route"
        )

    def quality(self, canary: str, baseline: str) -> Outcome:
        return self.jobs.ask(
            ("quality", canary, baseline),
            lambda say: self._compared(canary, baseline, say),
            QUALITY_SECONDS,
            f"reference prompts on {canary} and {baseline}",
        )

    def _smoked(self, say: Say) -> Outcome:
        """Through the first balancer to which there is a way. Raises FleetError."""
        site, plan = self.site, self.site.plan

        def tell(trial: Trial) -> None:
            say(f"smoke: {trial.name}: {trial.outcome}")

        with ExitStack() as stack:
            host = self._first(stack, "127.0.0.1", int(plan["ports"]["api"]))
            flags = site.release(self.release).get("flags") or {}
            route = Route(
                url=f"{'https' if plan.get('tls') else 'http'}://{host[0]}:{host[1]}",
                key=site.probe_key,
                model=site.served_name(site.split.engines[0]),
                tools=any(flag in flags for flag in _TOOL_FLAGS),
                context_tokens=int(site.model(self.release)["context_tokens"]),
                most_bytes=int(plan["edge"]["body_bytes"]),
                seconds=_ANSWER_SECONDS,
                certificates=site.certificates,
            )
            found = smoke(route, tell)
        return Outcome(_KINDS[found.outcome], found.reason)

    def _first(self, stack: ExitStack, address: str, port: int) -> tuple[str, int]:
        """Raises the last balancer's FleetError."""
        balancers: list[Host] = list(self.site.fleet.balancers)
        for host in balancers[:-1]:
            try:
                return stack.enter_context(through(host, address, port))
            except FleetError:
                continue
        return stack.enter_context(through(balancers[-1], address, port))

    def _compared(self, canary: str, baseline: str, say: Say) -> Outcome:
        """Raises FleetError."""
        with ExitStack() as stack:
            ours, theirs = self._engine(stack, canary), self._engine(stack, baseline)
            sheets = asyncio.run(self._asked(ours, theirs, say))
        rules = rules_of(self.site.canary.quality, same_model=self.same_model)
        verdict = judge(self.reference, sheets[1], sheets[0], rules, sheets[2])
        return Outcome(_KINDS[verdict.outcome], verdict.reason)

    def _engine(self, stack: ExitStack, name: str) -> Engine:
        url = urlsplit(self.site.fleet.engines[name].url)
        address, port = self._first(stack, str(url.hostname), int(url.port or 80))
        return Engine(name, f"http://{address}:{port}", self.site.fleet.key, self.site.served_name(name))

    async def _asked(self, ours: Engine, theirs: Engine, say: Say) -> tuple[Sheet, Sheet, Sheet]:
        """The canary, the baseline, and the baseline again: what it does not repeat itself is not asked of the canary."""

        def tell(name: str) -> Callable[[int, int], None]:
            return lambda done, of: say(f"reference prompts on {name}: {done} of {of}")

        both = await asyncio.gather(
            ask(ours, self.reference, self.salt, tell=tell(ours.name)),
            ask(theirs, self.reference, self.salt, tell=tell(theirs.name)),
        )
        again = await ask(theirs, self.reference, self.salt, tell=tell(f"{theirs.name} again"))
        return both[0], both[1], again
