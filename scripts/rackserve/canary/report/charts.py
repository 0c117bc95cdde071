"""The plots of a record: shares, evidence and bad events over time, and how long first tokens and gaps took."""

from collections.abc import Sequence
from itertools import groupby

from rackserve.canary.report.axes import Frame, draw_base, draw_legend, draw_times, draw_values, steps
from rackserve.canary.report.colours import SERIES
from rackserve.canary.report.drawing import Drawing, Point
from rackserve.canary.report.record import TRACKS, Evidence, Histogram, Metric, Record

_WIDTH, _LEFT, _RIGHT, _TOP, _BELOW = 920, 64, 20, 56, 30
# A line of more points looks the same.
_POINTS = 300


def shares(record: Record) -> Drawing:
    drawing = Drawing("Share of the pool's requests, in percent", _WIDTH, 300)
    highest = max([*(max(point.canary, point.baseline) / 10 for point in record.shares), 1.0])
    frame = _frame(drawing, record, highest * 1.12)
    _phases(drawing, frame, record)
    draw_values(drawing, frame, steps(frame.y1), " %")
    # The dashed line last: where both are the same, both show.
    for role in ("canary", "baseline"):
        points: list[Point] = []
        for point in record.shares:
            value = (point.canary if role == "canary" else point.baseline) / 10
            if points:
                points.append((frame.x(point.at), points[-1][1]))
            points.append((frame.x(point.at), frame.y(value)))
        if points:
            points.append((frame.x(record.last), points[-1][1]))
        drawing.line(points, role, 2.5, 0 if role == "canary" else 7)
    draw_legend(drawing, _LEFT, 44, [("canary", "canary", 0), ("baseline", "baseline", 7)])
    return drawing


def evidence(record: Record) -> Drawing:
    """In percent of the limit, on a logarithmic scale of the e-value: so metrics with different limits share one plot."""
    drawing = Drawing("Evidence that the canary is worse, in percent of what takes it back", _WIDTH, 340)
    values = [_of_limit(metric, look) for metric in record.metrics for look in metric.looks]
    looks_of = [
        (f"series-{number % SERIES}", 0 if metric.decides else 4) for number, metric in enumerate(record.metrics)
    ]
    entries = [
        (f"{metric.words}{'' if metric.decides else ' (shown only)'}", *look)
        for metric, look in zip(record.metrics, looks_of, strict=True)
    ]
    lower = draw_legend(drawing, _LEFT, 44, entries)
    frame = _frame(drawing, record, max([115.0, *(min(value * 1.05, 200.0) for value in values)]), lower)
    _phases(drawing, frame, record)
    draw_values(drawing, frame, [0, 25, 50, 75, 100, *([150, 200] if frame.y1 > 150 else [])], " %")
    for metric, (role, dash) in zip(record.metrics, looks_of, strict=True):
        # Each step begins anew, so lines do not run on from one to the next.
        for _, looks in groupby(metric.looks, key=lambda look: look.step):
            points = [(frame.x(look.at), frame.y(_of_limit(metric, look))) for look in looks]
            drawing.line(_thinned(points), role, 2, dash)
    drawing.line([(frame.left, frame.y(100)), (frame.left + frame.width, frame.y(100))], "limit", 1.5, 6)
    drawing.words(frame.left + frame.width - 4, frame.y(100) - 5, "limit", "limit", "end", 11)
    return drawing


def bad_events(record: Record) -> Drawing:
    """One small plot for each metric, counted within each step."""
    height, gap = 92, 34
    panels = record.metrics
    drawing = Drawing("Bad events within each step", _WIDTH, _TOP + max(1, len(panels)) * (height + gap))
    for number, metric in enumerate(panels):
        top = _TOP + number * (height + gap) + 14
        highest = max([1, *(max(look.canary.bad, look.baseline.bad) for look in metric.looks)])
        frame = Frame(_LEFT, top, _WIDTH - _LEFT - _RIGHT, height - 14, record.started, record.last, 0.0, highest * 1.1)
        drawing.words(_LEFT, top - 6, f"{metric.words}{'' if metric.decides else ' (shown only)'}", "text", size=12)
        draw_values(drawing, frame, [value for value in steps(highest, 3) if value == int(value)])
        draw_times(drawing, frame)
        for role in ("canary", "baseline"):
            for _, looks in groupby(metric.looks, key=lambda look: look.step):
                seen = list(looks)
                counts = [look.canary.bad if role == "canary" else look.baseline.bad for look in seen]
                points = [(frame.x(look.at), frame.y(count)) for look, count in zip(seen, counts, strict=True)]
                drawing.line(_thinned(points), role, 2, 0 if role == "canary" else 7)
        draw_base(drawing, frame)
    _head(drawing)
    draw_legend(drawing, _LEFT, 44, [("canary", "canary", 0), ("baseline", "baseline", 7)])
    return drawing


def histogram(one: Histogram) -> Drawing:
    """Percent of each track's requests in each class of seconds; classes that nobody fell into at the ends are left out."""
    drawing = Drawing(f"{one.title}: percent of each track's requests", _WIDTH, 300)
    _head(drawing)
    tracks = [track for track in TRACKS if sum(one.counts.get(track, ()))]
    rates = {track: [100 * count / sum(one.counts[track]) for count in one.counts[track]] for track in tracks}
    used = [place for place in range(len(one.edges) + 1) if any(rates[track][place] for track in tracks)]
    if not used:
        drawing.words(_WIDTH / 2, 150, "nothing was measured", "quiet", "middle", 14)
        return drawing
    places = range(used[0], used[-1] + 1)
    highest = max(rate for values in rates.values() for rate in values)
    frame = Frame(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, 300 - _TOP - 44, 0, len(places), 0, highest * 1.1)
    draw_values(drawing, frame, steps(frame.y1), " %")
    slot = frame.width / len(places)
    wide = min(slot * 0.86 / len(tracks), 40)
    for column, place in enumerate(places):
        middle = frame.left + slot * (column + 0.5)
        for number, track in enumerate(tracks):
            x = middle + (number - len(tracks) / 2) * wide
            y = frame.y(rates[track][place])
            tip = f"{track}: {one.counts[track][place]} ({rates[track][place]:.3g} %) {_class(one.edges, place)}"
            drawing.bar(x, y, max(wide - 1, 0.5), frame.bottom - y, track, tip)
        label = _edge(one.edges, place)
        if slot > 7 * len(label) or column % 2 == 0:
            drawing.words(middle, frame.bottom + 16, label, "quiet", "middle", 11)
    draw_base(drawing, frame)
    drawing.words(frame.left + frame.width, 300 - 6, "seconds, up to", "quiet", "end", 11)
    draw_legend(drawing, _LEFT, 44, [(f"{track} ({sum(one.counts[track])})", track, 0) for track in tracks])
    return drawing


def _of_limit(metric: Metric, look: Evidence) -> float:
    return 100 * max(look.log_e, look.log_e_absolute, 0.0) / metric.log_limit


def _frame(drawing: Drawing, record: Record, highest: float, lower: float = 0.0) -> Frame:
    _head(drawing)
    end, top = max(record.last, record.started + 1), _TOP + lower
    height = drawing.height - top - _BELOW
    return Frame(_LEFT, top, _WIDTH - _LEFT - _RIGHT, height, record.started, end, 0.0, highest)


def _head(drawing: Drawing) -> None:
    drawing.words(_LEFT, 20, drawing.title, "text", size=14)


def _phases(drawing: Drawing, frame: Frame, record: Record) -> None:
    """Every second step on darker ground, with its name where there is room."""
    for number, step in enumerate(record.steps):
        left, right = frame.x(step.start), frame.x(step.to if step.to is not None else record.last)
        if number % 2 == 0:
            drawing.bar(left, frame.top, max(right - left, 0), frame.height, "phase")
    draw_times(drawing, frame)
    for step in record.steps:
        left, right = frame.x(step.start), frame.x(step.to if step.to is not None else record.last)
        if right - left > 7 * len(step.name) + 8:
            drawing.words((left + right) / 2, frame.top + 13, step.name, "quiet", "middle", 11)
    draw_base(drawing, frame)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """The last one is always there: it is the one that decided."""
    every = max(1, len(points) // _POINTS)
    return [*points[:-1:every], *points[-1:]]


def _edge(edges: Sequence[float], place: int) -> str:
    return f"{edges[place]:g}" if place < len(edges) else "more"


def _class(edges: Sequence[float], place: int) -> str:
    return f"up to {edges[place]:g} s" if place < len(edges) else f"over {edges[-1]:g} s"
