"""A drawing as PNG, on light ground, for tickets that show no HTML. Standard library only."""

import math
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

from rackserve.canary.report.colours import LIGHT
from rackserve.canary.report.drawing import Bar, Drawing, Line, Point, Words
from rackserve.canary.report.letters import BASE, COLUMNS, strokes

_SCALE = 2
Colour = tuple[int, int, int]


def png(drawing: Drawing) -> bytes:
    """Twice as many pixels each way as the drawing has."""
    canvas = _Canvas(drawing.width * _SCALE, drawing.height * _SCALE)
    for shape in drawing.shapes:
        colour = _colour(shape.role)
        if isinstance(shape, Bar):
            canvas.fill(shape.x * _SCALE, shape.y * _SCALE, shape.width * _SCALE, shape.height * _SCALE, colour)
        elif isinstance(shape, Line):
            points = [(x * _SCALE, y * _SCALE) for x, y in shape.points]
            for one in _dashed(points, shape.dash * _SCALE) if shape.dash else [points]:
                canvas.chain(one, shape.width * _SCALE, colour)
        else:
            _write(canvas, shape, colour)
    return canvas.file()


def _colour(role: str) -> Colour:
    text = LIGHT[role]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _write(canvas: "_Canvas", words: Words, colour: Colour) -> None:
    # Capitals of usual fonts are 0.7 of their size high.
    unit = 0.7 * words.size * _SCALE / BASE
    advance = unit * (COLUMNS + 1) * 0.85
    wide = advance * len(words.text)
    x = words.x * _SCALE - {"start": 0.0, "middle": wide / 2, "end": wide}[words.anchor]
    for letter in words.text:
        for chain in strokes(letter):
            points = [(x + column * unit * 0.85, words.y * _SCALE + (row - BASE) * unit) for column, row in chain]
            canvas.chain(points, 0.9 * _SCALE, colour)
        x += advance


def _dashed(points: Sequence[Point], length: float) -> list[list[Point]]:
    """The chain cut into pieces: line, gap, line, each `length` long."""
    pieces: list[list[Point]] = []
    walked = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        far = math.hypot(x1 - x0, y1 - y0)
        at = 0.0
        while at < far:
            phase = walked % (2 * length)
            # Rounding must not make it stand still.
            step = min(far - at, max(length - phase % length, 0.01))
            if phase < length:
                pieces.append([_between(x0, y0, x1, y1, part / far) for part in (at, at + step)])
            walked, at = walked + step, at + step
    return pieces


def _between(x0: float, y0: float, x1: float, y1: float, part: float) -> Point:
    return x0 + (x1 - x0) * part, y0 + (y1 - y0) * part


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [bytearray(bytes(_colour("ground")) * width) for _ in range(height)]

    def fill(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        left, right = self._within(x, x + width, self.width)
        top, bottom = self._within(y, y + height, self.height)
        if right > left:
            for row in self.rows[top:bottom]:
                row[3 * left : 3 * right] = bytes(colour) * (right - left)

    @staticmethod
    def _within(start: float, end: float, most: int) -> tuple[int, int]:
        """Whole pixels, at least one for what has an extent at all."""
        first = round(start)
        last = max(round(end), first + (end > start))
        return max(0, min(first, most)), max(0, min(last, most))

    def chain(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        if len(points) == 1 or (len(points) == 2 and points[0] == points[1]):
            x, y = points[0]
            self.fill(x - width / 2, y - width / 2, width, width, colour)
        for start, end in pairwise(points):
            self._segment(start, end, width, colour)

    def _segment(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """Walks along the longer side and covers `width` across it, the two outer pixels in part."""
        (x0, y0), (x1, y1) = start, end
        steep = abs(y1 - y0) > abs(x1 - x0)
        if steep:
            x0, y0, x1, y1 = y0, x0, y1, x1
        if x0 > x1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
        half = width / 2 * math.hypot(1.0, slope)
        for along in range(math.floor(x0), math.ceil(x1) + 1):
            middle = y0 + slope * (min(max(along, x0), x1) - x0)
            low, high = middle - half, middle + half
            for across in range(math.floor(low), math.ceil(high)):
                covered = min(high, across + 1) - max(low, across)
                x, y = (across, along) if steep else (along, across)
                self._blend(x, y, covered, colour)

    def _blend(self, x: int, y: int, covered: float, colour: Colour) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            row = self.rows[y]
            for place, value in enumerate(colour, 3 * x):
                row[place] += round((value - row[place]) * min(covered, 1.0))

    def file(self) -> bytes:
        # Each row starts with its filter: none.
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows), 6)
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
