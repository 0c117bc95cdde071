"""The snapshot as a screen of about 120 columns. What needs an answer first: what is missing, what pages, then figures."""

import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rackserve.fleet.period import words
from rackserve.fleet.status.snapshot import Alert, Engine, Snapshot

UNKNOWN = "?"
# Prometheus scrapes every 15 s; figures that are older than four rounds are said to be old.
_OLD_SECONDS = 60
_LONGEST_WHY = 240


def screen(seen: Snapshot) -> RenderableType:
    head = [_head(seen), *_missing(seen)]
    tables = [
        *_alerts(seen),
        *_work(seen),
        _pools(seen),
        *_users(seen),
        *_budgets(seen),
        _engines(seen),
        _balancers(seen),
    ]
    return Group(*head, *(part for table in tables for part in (Text(), table)))


def _head(seen: Snapshot) -> Text:
    line = Text.assemble((seen.service, "bold"), f"  {_clock(seen.at)} UTC  balancers asked now, ")
    if seen.monitor is None:
        line.append("no figures from Prometheus", "bold red")
    else:
        age = seen.figures_age_seconds
        old = age is None or age > _OLD_SECONDS
        line.append(f"figures of {seen.monitor}'s Prometheus are {duration(age)} old", "bold yellow" if old else "")
    return line


def _missing(seen: Snapshot) -> list[RenderableType]:
    return [
        Text.assemble(("MISSING ", "bold red"), (one.what, "bold"), f": {one.why[:_LONGEST_WHY]}")
        for one in seen.missing
    ]


def _alerts(seen: Snapshot) -> list[RenderableType]:
    if not seen.alerts:
        return [] if seen.monitor is None else [Text("no alert fires", "green")]
    table = _table("ALERT", "what", "where", "since", "runbook")
    for one in seen.alerts:
        style = "bold red" if one.severity == "page" else "yellow"
        since = _clock(one.since) if one.since else UNKNOWN
        table.add_row(Text(one.severity, style), one.summary or one.name, _where(one), since, one.runbook)
    return [table]


def _work(seen: Snapshot) -> list[RenderableType]:
    """What operators have announced and taken out."""
    if not seen.maintenance and not seen.drains:
        return []
    table = _table("WORK", "what", "since", "until", "by", "at")
    for window in seen.maintenance:
        told = Text("maintenance: clients are sent away", "yellow")
        table.add_row(window.key, told, "", _clock(window.ends), "", ", ".join(window.balancers))
    for one in seen.drains:
        told = Text(one.step, "yellow")
        if not one.worked_on and one.step in ("draining", "returning"):
            # The command that did it has died, or was interrupted.
            told = Text(f"{one.step}, and nobody is at it: run it again", "bold red")
        by = f"{one.by}: {one.reason}" if one.reason else one.by
        table.add_row(one.engine, told, _clock(one.since), "", by, ", ".join(one.balancers))
    return [table]


def _where(alert: Alert) -> str:
    named = [alert.labels[name] for name in ("slo", "pool", "lane", "engine", "node") if alert.labels.get(name)]
    return " ".join(dict.fromkeys(named))


def _pools(seen: Snapshot) -> Table:
    # Means are shown only while there is nothing better.
    means = ("mean queue", "mean first byte", "mean answer") if seen.monitor is None else ()
    table = _table("POOL", "track", "release", "engines up", "in flight", "slots", "queued", "in waiting room", *means)
    for pool in seen.pools:
        for number, track in enumerate(pool.tracks):
            up = Text(
                f"{_count(track.engines_up)} of {track.engines}",
                "" if track.engines_up == track.engines else "bold red",
            )
            row: list[str | Text] = [pool.name if number == 0 else "", track.track, track.release, up]
            if number == 0:
                row += [_count(one) for one in (pool.in_flight, pool.slots, pool.queued, pool.waiting_room)]
                if means:
                    times = (pool.mean_queue_seconds, pool.mean_first_byte_seconds, pool.mean_answer_seconds)
                    row += [seconds(one) for one in times]
            table.add_row(*row)
    return table


def _users(seen: Snapshot) -> list[RenderableType]:
    if seen.monitor is None:
        return []
    if not seen.users:
        return [Text("no client asked anything in the last 5 minutes")]
    table = _table("USERS, 5 min", "lane", "req/s", "p95 first token", "p95 answer", "refused", "failed")
    for one in seen.users:
        table.add_row(
            one.pool,
            one.lane,
            f"{one.requests_per_second:.2f}",
            seconds(one.first_token_p95_seconds),
            seconds(one.answer_p95_seconds),
            _percent(one.refused_ratio),
            Text(_percent(one.failed_ratio), "bold red" if one.failed_ratio else ""),
        )
    return [table]


def _budgets(seen: Snapshot) -> list[RenderableType]:
    if not seen.budgets:
        return []
    table = _table("BUDGET", "pool", "lane", "left", "gone in, at the last hour's pace")
    for one in seen.budgets:
        left = Text(_percent(one.left_ratio), "bold red" if one.left_ratio is not None and one.left_ratio < 0.1 else "")
        ends = "not burning" if one.exhausted_in_seconds is None else duration(one.exhausted_in_seconds)
        table.add_row(one.slo, one.pool, one.lane, left, ends)
    return [table]


def _engines(seen: Snapshot) -> Table:
    table = _table("ENGINE", "node", "track", "state", "in flight", "slots", "it runs", "it holds back", "KV cache")
    for one in seen.engines:
        table.add_row(
            one.name,
            one.node,
            one.track,
            Text(one.state, _style(one)),
            _count(one.in_flight),
            _count(one.slots),
            *(_count(value) for value in (one.running, one.waiting)),
            _percent(one.kv_cache_ratio),
        )
    return table


def _style(engine: Engine) -> str:
    return {"up": "green", "unknown": "yellow", "drained": "yellow", "maintenance": "yellow"}.get(
        engine.state, "bold red"
    )


def _balancers(seen: Snapshot) -> Table:
    table = _table("BALANCER", "virtual address", "configuration", "HAProxy", "up for", "connections", "idle")
    for one in seen.balancers:
        if not one.answers:
            table.add_row(one.name, Text("does not answer", "bold red"))
            continue
        holds = {True: "holds it", False: "no", None: UNKNOWN if _has_address(seen) else "there is none"}[
            one.holds_address
        ]
        style = {"as the inventory": "green", "differs": "bold yellow"}.get(one.configuration, "")
        table.add_row(
            one.name,
            holds,
            Text(f"{one.configuration} ({one.digest or UNKNOWN})", style),
            one.version or UNKNOWN,
            duration(one.uptime_seconds),
            f"{_count(one.connections)} of {_count(one.connections_at_most)}",
            _percent(one.idle_ratio),
        )
    return table


def _has_address(seen: Snapshot) -> bool:
    return any(one.holds_address is not None for one in seen.balancers)


def _table(*columns: str) -> Table:
    # The first column's head names the table.
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column)
    return table


def _clock(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"


def _percent(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio * 100:.1f} %"


def seconds(value: float | None) -> str:
    """To three digits: 0.042 s, 1.25 s, 31.2 s."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f} s" if value < 1 else f"{value:.3g} s"


def duration(value: float | None) -> str:
    """In its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 12 d 3 h."""
    return UNKNOWN if value is None else words(value)
