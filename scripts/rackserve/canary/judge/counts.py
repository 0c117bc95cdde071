"""What was counted: requests and bad events of the two tracks that are compared, by time slice and stratum."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Metric = Literal["errors", "cut_streams", "empty_answers", "slow_ttft", "slow_inter_token"]
METRICS: tuple[Metric, ...] = ("errors", "cut_streams", "empty_answers", "slow_ttft", "slow_inter_token")


@dataclass(frozen=True)
class Tally:
    """Of one track in one cell. `of`: how many requests could have been bad (an answer without a first token has no TTFT)."""

    bad: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.of:
            raise ValueError(f"{self.bad} bad events of {self.of} requests: expected 0 <= bad <= requests")


NOTHING = Tally(0, 0)


@dataclass(frozen=True)
class Cell:
    """One metric in one time slice and one stratum (requests that may be compared with each other, such as prompts of a length)."""

    canary: Tally
    baseline: Tally
    stratum: str = ""


@dataclass(frozen=True)
class Slice:
    """A stretch of time, short against the window. `void`: why it must not be judged (a counter began anew, a reload)."""

    cells: Mapping[Metric, Sequence[Cell]]
    canary_requests: int
    baseline_requests: int
    void: str = ""


@dataclass(frozen=True)
class Account:
    """One metric over a window, added up as slices come; what a judgement costs does not grow with the window.

    `slices`: in how many of them the canary had a bad event. The others are sums over slices and cells, as summed_share and
    dispersion need them: of bad events and of the baseline's requests times the canary's share, and of bad squared over requests.
    """

    canary: Tally = NOTHING
    baseline: Tally = NOTHING
    slices: int = 0
    bad_times_share: float = 0.0
    baseline_times_share: float = 0.0
    canary_squares: float = 0.0
    baseline_squares: float = 0.0
    canary_slices: int = 0
    baseline_slices: int = 0

    def plus(self, cells: Sequence[Cell]) -> "Account":
        canary, baseline = total(cell.canary for cell in cells), total(cell.baseline for cell in cells)
        bad_times_share, baseline_times_share = self.bad_times_share, self.baseline_times_share
        for cell in cells:
            if both := cell.canary.of + cell.baseline.of:
                share = cell.canary.of / both
                bad_times_share += share * (cell.canary.bad + cell.baseline.bad)
                baseline_times_share += share * cell.baseline.of
        return Account(
            canary=total((self.canary, canary)),
            baseline=total((self.baseline, baseline)),
            slices=self.slices + (canary.bad > 0),
            bad_times_share=bad_times_share,
            baseline_times_share=baseline_times_share,
            canary_squares=self.canary_squares + _square(canary),
            baseline_squares=self.baseline_squares + _square(baseline),
            canary_slices=self.canary_slices + (canary.of > 0),
            baseline_slices=self.baseline_slices + (baseline.of > 0),
        )

    def allowed(self, tolerance: float) -> float:
        """Bad events that the baseline would have if it used up the tolerance (a rate)."""
        return self.baseline.bad + tolerance * self.baseline.of

    def share(self, tolerance: float) -> float:
        """The canary's part of the requests. Each stratum weighs by its own bad events, with the part that it really had."""
        events = self.canary.bad + self.allowed(tolerance)
        return (self.bad_times_share + tolerance * self.baseline_times_share) / events if events else 0.0

    def dispersion(self) -> float:
        """Variance over mean of the bad events of a slice, of the burstier track; at least 1.

        A stall makes many requests bad at once; they have one cause and must not count as many (Pearson's statistic over its
        degrees of freedom, as in quasi-likelihood: McCullagh, Nelder, Generalized Linear Models, section 4.5).
        """
        tracks = (
            (self.canary, self.canary_squares, self.canary_slices),
            (self.baseline, self.baseline_squares, self.baseline_slices),
        )
        return max([1.0, *(_dispersion(tally, squares, slices) for tally, squares, slices in tracks)])


def total(tallies: Iterable[Tally]) -> Tally:
    bad = of = 0
    for one in tallies:
        bad += one.bad
        of += one.of
    return Tally(bad, of)


def _square(tally: Tally) -> float:
    return tally.bad**2 / tally.of if tally.of else 0.0


def _dispersion(tally: Tally, squares: float, slices: int) -> float:
    # Sum of (bad - rate * of)^2 / (rate * of) over the slices, multiplied out.
    return (squares * tally.of / tally.bad - tally.bad) / (slices - 1) if tally.bad and slices > 1 else 1.0


@dataclass(frozen=True)
class Window:
    """What one step has seen until now. `canary_share`: the canary's part of the two tracks' requests, as it was declared.

    `void`: reasons why slices are not judged, with how many. `unreachable`: why the source of the counts did not answer.
    `dead`: what says that the canary serves nobody at all.
    """

    canary_share: float = 0.5
    accounts: Mapping[Metric, Account] = field(default_factory=dict)
    canary_requests: int = 0
    baseline_requests: int = 0
    slices: int = 0
    void: Mapping[str, int] = field(default_factory=dict)
    unreachable: str = ""
    dead: str = ""

    def plus(self, one: Slice) -> "Window":
        """The window with one more slice."""
        if one.void:
            void = {**self.void, one.void: self.void.get(one.void, 0) + 1}
            return replace(self, slices=self.slices + 1, void=void)
        accounts = {metric: self.of(metric).plus(one.cells.get(metric, ())) for metric in METRICS}
        return replace(
            self,
            accounts=accounts,
            canary_requests=self.canary_requests + one.canary_requests,
            baseline_requests=self.baseline_requests + one.baseline_requests,
            slices=self.slices + 1,
        )

    def of(self, metric: Metric) -> Account:
        return self.accounts.get(metric, _EMPTY)


_EMPTY = Account()


def window(slices: Iterable[Slice], **more: Any) -> Window:
    """A window of these slices; `more`: its other fields."""
    found = Window(**more)
    for one in slices:
        found = found.plus(one)
    return found
