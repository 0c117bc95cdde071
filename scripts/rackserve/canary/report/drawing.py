"""Lines, bars and words on a plane, once for SVG and once for PNG. Lengths are pixels of a screen; y grows downwards.

By hand, because lines and bars need no library that draws, and none is among the dependencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Line:
    """`role`: what it stands for; colours follow from it. `dash`: lengths of line and gap; 0: unbroken."""

    points: Sequence[Point]
    role: str
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True)
class Bar:
    """`tip`: what a reader of the SVG sees when pointing at it."""

    x: float
    y: float
    width: float
    height: float
    role: str
    tip: str = ""


@dataclass(frozen=True)
class Words:
    """`y`: of the base line. `size`: of the letters, in pixels."""

    x: float
    y: float
    text: str
    role: str = "text"
    anchor: Anchor = "start"
    size: float = 12.0


@dataclass
class Drawing:
    """`title`: also what is read aloud to those who cannot see it."""

    title: str
    width: int
    height: int
    shapes: list[Line | Bar | Words] = field(default_factory=list)

    def line(self, points: Sequence[Point], role: str, width: float = 1.0, dash: float = 0.0) -> None:
        if points:
            self.shapes.append(Line(points, role, width, dash))

    def bar(self, x: float, y: float, width: float, height: float, role: str, tip: str = "") -> None:
        self.shapes.append(Bar(x, y, width, height, role, tip))

    def words(
        self, x: float, y: float, text: str, role: str = "text", anchor: Anchor = "start", size: float = 12.0
    ) -> None:
        self.shapes.append(Words(x, y, text, role, anchor, size))
