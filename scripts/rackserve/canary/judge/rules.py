"""What a canary run was told: how much worse is still good, how sure to be, how much to have seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rackserve.canary.judge.counts import METRICS, Metric

# A split that drifted so unlikely by chance voids the window: what it counts was not assigned as declared.
SPLIT_ALPHA = 0.001


@dataclass(frozen=True)
class Rules:
    """`tolerances`: points above the baseline, as rates. `limits`: absolute rates from the SLOs, where there are any.

    `false_rollback`: accepted chance that a good release is taken back, over all metrics and the whole run.
    `measured_only`: metrics that are shown and do not decide.
    """

    tolerances: Mapping[Metric, float]
    false_rollback: float = 0.01
    minimum_requests: int = 200
    minimum_slices: int = 3
    limits: Mapping[Metric, float] = field(default_factory=dict)
    measured_only: frozenset[Metric] = frozenset()
    dead_share: float = 0.2
    dead_errors: int = 10

    @property
    def deciding(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in METRICS if metric not in self.measured_only)

    @property
    def alpha(self) -> float:
        """Each test's part: every deciding metric against the baseline, and those with a limit against that too."""
        tests = len(self.deciding) + sum(metric in self.limits for metric in self.deciding)
        return self.false_rollback / max(1, tests)
