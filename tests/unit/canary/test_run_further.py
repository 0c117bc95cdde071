"""A canary that is worse never gets further than the same one less bad, whatever is bad and whenever it begins."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rackserve.canary.judge.counts import METRICS, Metric
from rackserve.canary.run.record import State

from .played import Played, Release, plan, start, to_the_end

RATES = st.floats(0, 0.4)


def reached(metric: Metric, rate: float, engines: int) -> tuple[int, int]:
    """The highest share, and whether it was promoted: how far such a canary gets in the time that a hold would be looked at."""
    world = Played(plan(engines), Release({metric: rate}))
    with tempfile.TemporaryDirectory() as directory:
        record = to_the_end(start(world, Path(directory)), world, seconds=900)
    assert world.violations == []
    assert world.unserved == 0
    return world.highest, record.at is State.DONE


@settings(max_examples=20)
@given(metric=st.sampled_from(METRICS), rate=RATES, more=RATES, engines=st.sampled_from([2, 4]))
def test_worse_never_gets_further(metric: Metric, rate: float, more: float, engines: int) -> None:
    assert reached(metric, rate + more, engines) <= reached(metric, rate, engines)
