"""Whether the pool is as a run needs it. Pure: what is seen in, reasons against it out; nothing has been changed then."""

from dataclasses import dataclass

from rackserve.canary.run.plan import Plan
from rackserve.canary.run.world import NOTHING, BalancerSeen, Seen


@dataclass(frozen=True)
class Objections:
    """`refused`: it must not start so; `unknown`: somebody who has to be asked does not answer; `notes`: what one should know."""

    refused: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of the command: 4 refused, 3 could not tell, 0 go."""
        return 4 if self.refused else 3 if self.unknown else 0

    @property
    def said(self) -> str:
        return "; ".join((*self.refused, *self.unknown))


def objections(plan: Plan, seen: Seen) -> Objections:
    refused = [why for name, each in seen.balancers.items() for why in _balancer(plan, name, each)]
    unknown = [f"balancer {name} could not be asked: {why}" for name, why in seen.unreachable.items()]
    if not seen.balancers and not unknown:
        unknown.append("no balancer is known")
    for name in plan.engines:
        engine = seen.engines.get(name)
        if engine is None or engine.release is None:
            why = engine.error if engine and engine.error else "it was not asked"
            unknown.append(f"engine {name} does not say which release it runs: {why}")
        elif engine.release != plan.before:
            refused.append(
                f"engine {name} runs {engine.release}, the pool's release is {plan.before}: run playbooks/release.yml first"
            )
    if plan.release == plan.before and not plan.trial:
        refused.append(
            f"{plan.release} is what pool {plan.pool} runs already: a trial of A against A is asked for as such"
        )
    notes = (
        [] if seen.totals is not None else [f"figures do not come yet, and nothing rises without: {seen.no_figures}"]
    )
    return Objections(tuple(refused), tuple(unknown), (*plan.notes, *notes))


def _balancer(plan: Plan, name: str, each: BalancerSeen) -> list[str]:
    found = []
    if each.busy:
        found.append(f"balancer {name} is being changed: {each.busy}")
    for where, share in (("gives", each.live), ("has on disk for", each.file)):
        if share != NOTHING:
            found.append(
                f"balancer {name} {where} the pool {share} already, of no run that is known: scripts/rollback {plan.pool} takes it "
                "back"
            )
    for engine in plan.engines:
        if (track := each.tracks.get(engine)) != "stable":
            found.append(f"engine {engine} is in {track or 'no track'} at balancer {name}, not in stable")
        if engine in each.drained:
            found.append(f"engine {engine} is drained at balancer {name}: scripts/undrain {engine}")
        elif engine not in each.up:
            found.append(f"the checks of engine {engine} fail at balancer {name}")
    return found
