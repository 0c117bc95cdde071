"""Where time went, as bars: in a terminal, and as an SVG that any browser shows. Pure: text out.

By hand, because bars need no library that draws, and none is among the dependencies.
"""

from collections.abc import Sequence
from html import escape

from rackserve.traffic_log.history.latency import Lane

_COLOURS = {
    "read": "#9e9e9e", "waiting room": "#c62828", "queue": "#ef6c00", "connect": "#fbc02d",
    "first token": "#1565c0", "tokens": "#43a047", "whole answer": "#00897b", "end": "#6a1b9a",
}  # fmt: skip
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 960, 190, 90, 26, 14


def bar(ratio: float, width: int = 20) -> str:
    """In eighths of a character."""
    eighths = round(min(max(ratio, 0), 1) * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def svg(title: str, lanes: Sequence[Lane]) -> str:
    """One bar per lane: the mean request, its stages one behind the other, all at the same scale."""
    drawn = [lane for lane in lanes if lane.requests]
    longest = max((lane.mean_seconds for lane in drawn), default=0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts, y = [_text(10, 24, title, "bold")], 44
    for lane in drawn:
        parts.append(_text(10, y + 18, f"{lane.lane} ({lane.requests})"))
        x = float(_LEFT)
        for stage in lane.stages:
            wide = stage.share_ratio * lane.mean_seconds * scale
            tip = f"{stage.stage}: {stage.share_ratio * 100:.1f} %, p95 {stage.p95_seconds:.3f} s"
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_BAR}" fill="{_COLOURS[stage.stage]}">'
                f"<title>{escape(tip)}</title></rect>"
            )
            x += wide
        parts.append(_text(x + 6, y + 18, f"{lane.mean_seconds:.3f} s"))
        y += _BAR + _GAP
    x = 10.0
    for name, colour in _COLOURS.items():
        parts.append(f'<rect x="{x:.0f}" y="{y + 4}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 17, y + 15, name))
        x += 30 + 8 * len(name)
    height = y + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="14">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
