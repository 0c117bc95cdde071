"""Traffic on two tracks as a step sees it: bursts of requests, stalls that make many bad at once, and a canary as bad as wished."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from rackserve.canary.judge.counts import Cell, Slice, Tally


@dataclass(frozen=True)
class World:
    """`rate`: share of bad requests of the baseline; `factor`: the canary's over it. `stall`: chance that a track stalls in a slice.

    `requests`: of both tracks in a slice, on average; they come in bursts, so slices differ by a multiple of that.
    """

    rate: float = 0.03
    factor: float = 1.0
    requests: int = 60
    share: float = 0.5
    stall: float = 0.03
    stalled_share: float = 0.5
    slices: int = 90


def slices(world: World, seed: int) -> Iterator[Slice]:
    draw = random.Random(seed)
    for _ in range(world.slices):
        number = round(world.requests * draw.gammavariate(2, 0.5))
        canary = sum(draw.random() < world.share for _ in range(number))
        cells = {
            "slow_ttft": [
                Cell(
                    _track(draw, world, canary, world.rate * world.factor),
                    _track(draw, world, number - canary, world.rate),
                )
            ]
        }
        yield Slice(cells, canary, number - canary)  # type: ignore[arg-type]


def _track(draw: random.Random, world: World, number: int, rate: float) -> Tally:
    chance = world.stalled_share if draw.random() < world.stall else rate
    return Tally(sum(draw.random() < chance for _ in range(number)), number)
