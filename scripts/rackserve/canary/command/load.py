"""What a pool has had to carry, as its monitors know it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rackserve.canary.judge.counts import Metric
from rackserve.fleet import prometheus
from rackserve.fleet.drain.fleet import Fleet
from rackserve.fleet.drain.observe import peaks_of
from rackserve.fleet.drain.sight import Peak
from rackserve.fleet.period import words

_DAY_SECONDS = 23 * 3600
_SECONDS = 20.0
_BAD: Mapping[Metric, str] = {"errors": "engine_error|timeout|unreachable", "cut_streams": "cut"}


class NotKnown(Exception):
    """Somebody who has to be asked does not answer. `exit_code`: of the command."""

    exit_code = 3


@dataclass(frozen=True)
class Load:
    """`peak`: most requests that ran or waited at a time within a day. `per_second`: requests of the last hour; 0 also where nobody
    knows. `rates`: shares of bad requests of a day. `notes`: for people."""

    peak: float
    per_second: float = 0.0
    rates: Mapping[Metric, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def fewest(self, slots: int) -> int:
        """Engines of so many slots that carry the peak."""
        return max(1, math.ceil(self.peak / slots))


def load_of(fleet: Fleet, pool: str, peak: float | None = None) -> Load:
    """`peak`: what a person says it is. Raises NotKnown."""
    engine = next(name for name, one in fleet.engines.items() if one.pool == pool)
    notes: list[str] = []
    if peak is None:
        said = peaks_of(fleet, (engine,))[pool]
        if not isinstance(said, Peak):
            raise NotKnown(
                f"whether the rest of pool {pool} carries a day's peak is not known ({said}). Where no monitor answers, --peak N says how "
                "many requests at a time are the most"
            )
        peak = said.requests
        if said.known_seconds < _DAY_SECONDS:
            notes.append(
                f"of the last day only {words(said.known_seconds)} are known, so the peak may have been higher"
            )
    answer = prometheus.ask_any(fleet.monitors, int(fleet.plan["ports"]["prometheus"]), _question(pool), _SECONDS)
    if isinstance(answer, prometheus.NoMonitor):
        notes.append(f"how many requests come is not known, so the times below are without them: {answer}")
        return Load(peak, notes=tuple(notes))
    figures = {name: next((one.number for one in answer.of(name)), None) for name in ("rate", *_BAD)}
    if not figures["rate"]:
        notes.append(f"pool {pool} had no requests within the last hour: it would hold for want of evidence")
    rates = {metric: figure for metric in _BAD if (figure := figures[metric]) is not None}
    return Load(peak, figures["rate"] or 0.0, rates, tuple(notes))


def _question(pool: str) -> prometheus.Question:
    own = f'pool="{pool}",origin!="probe"'
    total = f"sum(increase(rackserve_requests_total{{{own}}}[1d]))"
    bad: dict[str, str] = {
        name: f'sum(increase(rackserve_requests_total{{{own},outcome=~"{which}"}}[1d])) / {total}'
        for name, which in _BAD.items()
    }
    return prometheus.Question({"rate": f"sum(rate(rackserve_requests_total{{{own}}}[1h]))", **bad})
