"""What a run was told when it started. It never changes afterwards, whatever becomes of the definition."""

from collections.abc import Mapping
from dataclasses import dataclass

from rackserve.canary.judge.counts import Metric
from rackserve.canary.judge.rules import Rules
from rackserve.canary.run.world import Claim, Frozen, Share, Track
from rackserve.definition.models.canary import Canary

LATENCY: frozenset[Metric] = frozenset({"slow_ttft", "slow_inter_token"})
# A fiftieth of the shortest observation, so that bad events can lie in several slices; not below what counters resolve.
_SLICES, _SHORTEST_SLICE_SECONDS = 50, 5.0


class Refused(Exception):
    """The run cannot be as asked. The sentence says what is possible. `exit_code`: of the command."""

    exit_code = 2


class Level(Frozen):
    """One share of traffic. `gate`: the percentage that an approval has to name; None: none is needed."""

    name: str
    share: Share
    parity: bool = False
    gate: float | None = None


class Plan(Frozen):
    """`before`: the release that the engines run now, and go back to. `trial`: A against A, to see how often a good release is taken
    back; it ends before promotion. `baseline` None: stable is the control, and latency is judged
    only where the engines have equal loads. `fewest`: engines that carry today's peak. Rates, not percentages."""

    run: str
    pool: str
    release: str
    before: str
    by: str
    since: float
    engines: tuple[str, ...]
    canary: str
    baseline: str | None
    levels: tuple[Level, ...]
    fewest: int
    settle_seconds: float
    observe_seconds: float
    observe_limit_seconds: float
    watchdog_seconds: float
    minimum_requests: int
    false_rollback: float
    tolerances: dict[Metric, float]
    limits: dict[Metric, float]
    measured_only: frozenset[Metric]
    same_model: bool = False
    trial: bool = False
    notes: tuple[str, ...] = ()

    @property
    def claim(self) -> Claim:
        return Claim(run=self.run, pool=self.pool, release=self.release, by=self.by, since=self.since)

    @property
    def control(self) -> Track:
        return "baseline" if self.baseline else "stable"

    @property
    def order(self) -> tuple[str, ...]:
        """Who gets the release after the canary. The baseline engine first: from then on stable is a control of equal load."""
        others = tuple(name for name in self.engines if name not in (self.canary, self.baseline))
        return (self.baseline, *others) if self.baseline else others

    @property
    def slice_seconds(self) -> float:
        return max(_SHORTEST_SLICE_SECONDS, self.observe_seconds / _SLICES)

    def rules(self, *, latency: bool) -> Rules:
        """`latency`: whether the two tracks' engines have equal loads, so that times may be compared."""
        return Rules(
            tolerances=self.tolerances,
            false_rollback=self.false_rollback,
            minimum_requests=self.minimum_requests,
            limits=self.limits,
            measured_only=self.measured_only if latency else self.measured_only | LATENCY,
        )


@dataclass(frozen=True)
class Wish:
    """What is asked for, and what is known of the pool. `engines` in the definition's order; `limits`: rates from the SLOs.
    `canary` None: one is chosen. `fewest`: engines that carry today's peak; `slots` and the like are counted before."""

    run: str
    pool: str
    release: str
    before: str
    by: str
    since: float
    engines: tuple[str, ...]
    nodes: Mapping[str, str]
    fewest: int
    canary: str | None = None
    limits: Mapping[Metric, float] | None = None
    same_model: bool = False
    trial: bool = False


def plan_of(wish: Wish, canary: Canary) -> Plan:
    """Raises Refused."""
    number = len(wish.engines)
    if number < 2:
        raise Refused(
            f"pool {wish.pool} has one engine ({', '.join(wish.engines)}), so nobody serves while it changes: add a second engine, "
            f"or announce it (scripts/maintenance on {wish.pool} --for 30m) and run playbooks/release.yml"
        )
    if wish.canary is not None and wish.canary not in wish.engines:
        raise Refused(f"engine {wish.canary} is not of pool {wish.pool}; its engines: {', '.join(wish.engines)}")
    if wish.fewest > number - 1:
        raise Refused(
            f"without the canary's engine pool {wish.pool} has {number - 1} engines, and today's peak needs {wish.fewest}: "
            "start at a quieter time, or add an engine"
        )
    tried = wish.canary or wish.engines[-1]
    with_baseline = number >= 3 and wish.fewest <= number - 2
    baseline = _baseline(wish, tried) if with_baseline else None
    levels, notes = _levels(canary, number, with_baseline)
    tolerances: dict[Metric, float] = {
        "errors": canary.tolerances.errors_percent / 100,
        "cut_streams": canary.tolerances.cut_streams_percent / 100,
        "empty_answers": canary.tolerances.empty_answers_percent / 100,
        "slow_ttft": canary.tolerances.slow_ttft_percent / 100,
        "slow_inter_token": canary.tolerances.slow_inter_token_percent / 100,
    }
    return Plan(
        run=wish.run,
        pool=wish.pool,
        release=wish.release,
        before=wish.before,
        by=wish.by,
        since=wish.since,
        engines=wish.engines,
        canary=tried,
        baseline=baseline,
        levels=levels,
        fewest=wish.fewest,
        settle_seconds=canary.settle_seconds,
        observe_seconds=canary.observe_seconds,
        observe_limit_seconds=canary.observe_limit_seconds,
        watchdog_seconds=canary.watchdog_seconds,
        minimum_requests=canary.minimum_requests,
        false_rollback=canary.false_rollback_percent / 100,
        tolerances=tolerances,
        limits=dict(wish.limits or {}),
        measured_only=frozenset(canary.measured_only),
        same_model=wish.same_model or wish.trial,
        trial=wish.trial,
        notes=notes,
    )


def _baseline(wish: Wish, tried: str) -> str:
    """On another node where there is one: engines of one node share its troubles."""
    others = [name for name in wish.engines if name != tried]
    return next((name for name in others if wish.nodes.get(name) != wish.nodes.get(tried)), others[0])


def _levels(canary: Canary, number: int, with_baseline: bool) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """No engine gets more than its equal part of the traffic: a step above is left out, and its gate goes to the last level."""
    part = 1000 // number
    levels, notes, gate = [], [], None
    for percent in canary.steps_percent:
        thousandths = round(10 * percent)
        if thousandths < 1:
            raise Refused(f"steps_percent: {percent:g} % is less than a thousandth of the requests; the least is 0.1")
        gated = percent if percent in canary.gates else None
        if thousandths >= part:
            gate = gated if gate is None else gate
            if thousandths > part:
                notes.append(f"{percent:g} % is left out: one of {number} engines carries {part / 10:g} %")
            continue
        share = Share(canary=thousandths, baseline=thousandths if with_baseline else 0)
        levels.append(Level(name=f"{percent:g} %", share=share, gate=gated))
    if canary.load_parity or gate is not None or not levels:
        share = Share(canary=part, baseline=part if with_baseline else 0)
        levels.append(Level(name=f"load parity ({part / 10:g} %)", share=share, parity=True, gate=gate))
    if not with_baseline:
        when = "only at load parity" if levels[-1].parity else "before promotion not at all (load_parity is false)"
        notes.append(
            "no engine to spare for a baseline, so stable is also the control: errors are judged at every step, latency "
            + when
        )
    return tuple(levels), tuple(notes)
