"""Timelines and tables for people."""

import datetime
from collections.abc import Mapping, Sequence

from rich.table import Table

from rackserve.traffic_log.history.engine import EngineSpent
from rackserve.traffic_log.history.latency import Lane, Spent
from rackserve.traffic_log.history.plot import bar
from rackserve.traffic_log.history.timeline import Entry

UNKNOWN = "?"


def timeline(entries: Sequence[Entry]) -> str:
    """A line per entry, never folded: details go as far as they are long. `after`: since the first entry."""
    rows = [("time (UTC)", "after", "node", "what", "")]
    for entry in entries:
        moment = datetime.datetime.fromtimestamp(entry.at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        rows.append((moment, f"{entry.at - entries[0].at:.3f} s", entry.node, entry.what, entry.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    cells = ([text.ljust(width) for text, width in zip(row, (*widths, 0), strict=True)] for row in rows)
    return "\n".join("  ".join(one).rstrip() for one in cells)


def lane(found: Lane, title: str) -> Table:
    table = _table(title, "share of the time", "requests")
    for stage in [*found.stages, *([found.total] if found.total else [])]:
        table.add_row(*_row(stage), f"{stage.share_ratio * 100:5.1f} %  {bar(stage.share_ratio)}", str(stage.requests))
    return table


def engines(found: Sequence[EngineSpent], title: str) -> Table:
    table = _table(title, "mean", "share of the engines' time")
    for stage in found:
        share = UNKNOWN if stage.share_ratio is None else f"{stage.share_ratio * 100:5.1f} %  {bar(stage.share_ratio)}"
        figures = (stage.p50_seconds, stage.p95_seconds, stage.p99_seconds, stage.max_at_most_seconds)
        table.add_row(stage.stage, *(_seconds(value) for value in figures), _seconds(stage.mean_seconds), share)
    return table


def others(found: Mapping[str, int]) -> str:
    """How many ended otherwise: 12 refused, 1 cut."""
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in found.items())


def _table(title: str, *more: str) -> Table:
    table = Table(title, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("p50", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    for column in more:
        table.add_column(column)
    return table


def _row(stage: Spent) -> list[str]:
    figures = (stage.p50_seconds, stage.p95_seconds, stage.p99_seconds, stage.max_seconds)
    return [stage.stage, *(_seconds(value) for value in figures)]


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f} s"
