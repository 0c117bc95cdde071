"""The report as one HTML page: nothing is loaded from elsewhere, and the record stands in it as JSON."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from rackserve.canary.report import charts
from rackserve.canary.report.drawing import Drawing
from rackserve.canary.report.record import TRACKS, Histogram, Metric, Record, Tally
from rackserve.canary.report.style import STYLE
from rackserve.canary.report.svg import svg

_TONES = {
    "pass": "good", "fail": "bad", "inconclusive": "doubt", "source_unreachable": "doubt",
    "promoted": "good", "rolled_back": "bad", "held": "doubt", "halted": "bad", "running": "doubt",
    "approved": "good", "aborted": "bad", "waiting": "doubt",
}  # fmt: skip
_WORDS = {
    "promoted": "Promoted", "rolled_back": "Rolled back", "held": "Held: nothing moves until somebody decides",
    "halted": "Halted: a person has to look", "running": "Still running",
    "source_unreachable": "source unreachable",
}  # fmt: skip


def html(record: Record) -> str:
    """Also well-formed XML, so that other programs can read it."""
    title = f"Canary run {record.run}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">Pool {escape(record.pool)}: release {escape(record.release_before)} to {escape(record.release)}'
        f"{', an A/A trial of one release with itself' if record.trial else ''}</p>",
        f'<div class="verdict {_TONES[record.outcome]}"><strong>{_WORDS[record.outcome]}</strong>'
        f"<p>{escape(record.reason)}</p></div>",
        _facts(record),
        _list(record.notes),
        _section("Verdicts", _verdicts(record)),
        _section("Shares", _figure(charts.shares(record)), _shares(record)),
        _section("Evidence", _figure(charts.evidence(record)), _metrics(record)),
        _section("Bad events", _figure(charts.bad_events(record))),
        *(_section(one.title, _figure(charts.histogram(one)), _counts(one)) for one in record.histograms),
        _section("Failed requests", _errors(record)),
        _section("Who did what", _acts(record)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}"
        f'<script type="application/json" id="record">{_embedded(record)}</script></body></html>\n'
    )


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def rate(tally: Tally | None) -> str:
    if tally is None or not tally.of:
        return "none seen"
    return f"{tally.bad} of {tally.of} ({100 * tally.bad / tally.of:.2g} %)"


def e_value(logarithm: float) -> str:
    """As a person reads it."""
    return f"{math.exp(logarithm):.3g}" if logarithm < 30 else f"1e{logarithm / math.log(10):.0f}"


def _facts(record: Record) -> str:
    ended = moment(record.ended) if record.ended is not None else "not yet"
    facts = [
        ("Started by", record.who),
        ("Started", f"{moment(record.started)} UTC"),
        ("Ended", f"{ended}{' UTC' if record.ended is not None else ''}"),
        ("Took", duration(record.last - record.started)),
        ("Model", "unchanged" if record.same_model else "another one"),
        ("Accepted false rollbacks", f"{record.false_rollback_percent:g} % of good releases"),
    ]
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>"


def _verdicts(record: Record) -> str:
    rows: list[tuple[float, str, str, str]] = [(one.at, one.name, one.outcome, one.reason) for one in record.checks]
    rows += [(one.start, f"Step {one.name}", one.outcome, one.reason) for one in record.steps]
    rows += [
        (
            gate.opened,
            f"Gate {gate.step}",
            gate.decision,
            f"by {gate.by} at {moment(gate.decided)}" if gate.by and gate.decided is not None else "nobody yet",
        )
        for gate in record.gates
    ]
    return _table(
        ["When (UTC)", "What", "Outcome", "Why"],
        [
            [_time(at), f'<td class="name">{escape(name)}</td>', _outcome(outcome), escape(reason)]
            for at, name, outcome, reason in sorted(rows, key=lambda row: row[0])
        ],
    )


def _shares(record: Record) -> str:
    return _table(
        ["From (UTC)", "Canary", "Baseline"],
        [[_time(one.at), *(_number(f"{value / 10:g} %") for value in (one.canary, one.baseline))] for one in record.shares],
        numbers=(1, 2),
    )  # fmt: skip


def _metrics(record: Record) -> str:
    rows = []
    for metric in record.metrics:
        tallies = [rate(metric.totals.get(track)) for track in TRACKS]
        allowed = f"{100 * metric.tolerance:.2g} points"
        rows.append(
            [
                escape(metric.words) + ("" if metric.decides else ' <span class="quiet">(shown only)</span>'),
                *(_number(one) for one in (*tallies, allowed, _highest(metric), e_value(metric.log_limit))),
            ]
        )
    heads = ["Over the whole run", *TRACKS, "allowed more", "highest e-value", "limit"]
    return _table([head[0].upper() + head[1:] for head in heads], rows, numbers=range(1, 7))


def _highest(metric: Metric) -> str:
    """Of all looks: the moment at which the canary was closest to being taken back."""
    logarithms = [max(look.log_e, look.log_e_absolute) for look in metric.looks]
    return e_value(max(logarithms)) if logarithms else "none"


def _counts(one: Histogram) -> str:
    classes = [f"up to {edge:g} s" for edge in one.edges] + [f"over {one.edges[-1]:g} s"]
    rows = [
        [escape(name), *(_number(str(one.counts[track][place])) if track in one.counts else "<td></td>" for track in TRACKS)]
        for place, name in enumerate(classes)
        if any(one.counts[track][place] for track in TRACKS if track in one.counts)
    ]  # fmt: skip
    return _table(["Seconds", *(track.capitalize() for track in TRACKS)], rows, numbers=(1, 2, 3))


def _errors(record: Record) -> str:
    rows = [[escape(one.what), *(_number(str(one.counts.get(track, 0))) for track in TRACKS)] for one in record.errors]
    return _table(["What", *(track.capitalize() for track in TRACKS)], rows, numbers=(1, 2, 3))


def _acts(record: Record) -> str:
    rows = [
        [_time(act.at), *(escape(text) for text in (act.who, act.where, act.what, act.before, act.after))]
        for act in record.acts
    ]
    return _table(["When (UTC)", "Who", "From", "What", "Before", "After"], rows)


def _section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>{''.join(parts)}"


def _figure(drawing: Drawing) -> str:
    return f"<figure>{svg(drawing)}</figure>"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Cells are HTML; those that do not bring their own element get one."""
    if not rows:
        return '<p class="quiet">None.</p>'
    right = set(numbers)
    head = "".join(
        f'<th class="number">{escape(text)}</th>' if place in right else f"<th>{escape(text)}</th>"
        for place, text in enumerate(heads)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _time(at: float) -> str:
    return f'<td class="time">{moment(at)}</td>'


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _outcome(outcome: str) -> str:
    return f'<td class="word {_TONES[outcome]}">{escape(_WORDS.get(outcome, outcome))}</td>'


def _embedded(record: Record) -> str:
    """JSON without the characters that would end the element, or mean something else in XML."""
    text = record.model_dump_json()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
