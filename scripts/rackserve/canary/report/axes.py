"""Where numbers lie on a drawing, and which of them are written at its edges."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rackserve.canary.report.drawing import Drawing

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


@dataclass(frozen=True)
class Frame:
    """A part of a drawing, and the numbers at its edges: x0 at the left, y0 at the bottom."""

    left: float
    top: float
    width: float
    height: float
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return self.left + self.width * (value - self.x0) / ((self.x1 - self.x0) or 1.0)

    def y(self, value: float) -> float:
        """What lies outside is drawn at the edge."""
        part = (value - self.y0) / ((self.y1 - self.y0) or 1.0)
        return self.top + self.height * (1 - min(max(part, 0.0), 1.0))

    @property
    def bottom(self) -> float:
        return self.top + self.height


def clock(at: float, seconds: bool = False) -> str:
    """UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def times(start: float, end: float, most: int = 8) -> list[float]:
    """Round moments within."""
    step = next((one for one in _TIME_STEPS if (end - start) / one <= most), _TIME_STEPS[-1])
    return list(_steps(start, end, step))


def steps(high: float, most: int = 5) -> list[float]:
    """Round numbers from 0 up to `high`."""
    if high <= 0:
        return [0.0]
    rough = high / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    return list(_steps(0.0, high, step))


def _steps(start: float, end: float, step: float) -> Iterator[float]:
    first = math.ceil(start / step - 1e-9)
    yield from (number * step for number in range(first, math.floor(end / step + 1e-9) + 1))


def draw_times(drawing: Drawing, frame: Frame) -> None:
    moments = times(frame.x0, frame.x1)
    seconds = len(moments) > 1 and moments[1] - moments[0] < 60
    for moment in moments:
        drawing.line([(frame.x(moment), frame.top), (frame.x(moment), frame.bottom)], "grid")
        drawing.words(frame.x(moment), frame.bottom + 16, clock(moment, seconds), "quiet", "middle", 11)


def draw_values(drawing: Drawing, frame: Frame, values: Sequence[float], unit: str = "") -> None:
    for value in values:
        drawing.line([(frame.left, frame.y(value)), (frame.left + frame.width, frame.y(value))], "grid")
        drawing.words(frame.left - 6, frame.y(value) + 4, f"{value:.6g}{unit}", "quiet", "end", 11)


def draw_base(drawing: Drawing, frame: Frame) -> None:
    drawing.line([(frame.left, frame.bottom), (frame.left + frame.width, frame.bottom)], "axis")


def draw_legend(drawing: Drawing, x: float, y: float, entries: Sequence[tuple[str, str, float]]) -> float:
    """`entries`: words, role and dash of each. As many rows as needed; returns how high those after the first are."""
    at, row = x, 0.0
    for words, role, dash in entries:
        wide = 28 + 7.2 * len(words)
        if at > x and at + wide > drawing.width - 10:
            at, row = x, row + 18
        drawing.line([(at, y + row - 4), (at + 22, y + row - 4)], role, 2.5, dash)
        drawing.words(at + 28, y + row, words, "text", size=12)
        at += wide + 22
    return row
