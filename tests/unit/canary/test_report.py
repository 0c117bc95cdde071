"""The report of a run: complete, on its own, and the same as page, as JSON and as pictures."""

import json
import math
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rackserve.canary.report import charts, page
from rackserve.canary.report.axes import Frame, steps, times
from rackserve.canary.report.colours import DARK, LIGHT
from rackserve.canary.report.drawing import Drawing, Line
from rackserve.canary.report.png import png
from rackserve.canary.report.record import Histogram, Record, SharePoint, Tally
from rackserve.canary.report.svg import svg
from rackserve.canary.report.write import ReportError, read, write

from .runs import BEGIN, run


@cache
def bad_run() -> Record:
    return run(bad=True)


@cache
def tree() -> ET.Element:
    return ET.fromstring(page.html(bad_run()).removeprefix("<!DOCTYPE html>\n"))


def text_of(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def cells() -> list[list[str]]:
    return [[text_of(cell) for cell in row] for row in tree().iter("tr")]


def test_the_runs_shown_here_are_one_of_each_kind() -> None:
    assert bad_run().outcome == "rolled_back"
    assert run(bad=False).outcome == "promoted"


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    assert tree().tag == "html"
    text = page.html(bad_run())
    assert re.findall(r"(?i)(?:https?:)?//[a-z0-9]|url\(|@import|\bsrc=|\bhref=", text) == []
    policy = next(one.get("content") for one in tree().iter("meta") if one.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_verdict_with_its_reason_comes_first() -> None:
    body = text_of(next(iter(tree().iter("body"))))
    assert body.startswith(
        "Canary run small-20260910-001 Pool small: release small-1 to small-2 Rolled back Worse than"
    )
    assert body.index(bad_run().reason) < body.index("Verdicts")


def test_the_page_carries_the_whole_record() -> None:
    (script,) = tree().iter("script")
    assert Record.model_validate_json(str(script.text)) == bad_run()
    browser = re.search(r'<script type="application/json" id="record">(.*?)</script>', page.html(bad_run()), re.S)
    assert browser is not None
    assert Record.model_validate_json(browser[1]) == bad_run(), (
        "also read as HTML, where nothing in a script is decoded"
    )


def test_what_people_wrote_cannot_become_a_part_of_the_page() -> None:
    evil = '</script><script>alert(1)</script> & "<b>'
    text = page.html(run(who=evil, reason=evil, notes=(evil,)))
    assert "<script>alert" not in text
    assert text.count("<script") == 1
    assert evil in text_of(ET.fromstring(text.removeprefix("<!DOCTYPE html>\n")))


def numbers() -> Iterator[str]:
    """Every number of the record as the page should show it; the single looks are in the plots and in the embedded record."""
    record = bad_run()
    for one in record.shares:
        yield from (f"{one.canary / 10:g} %", f"{one.baseline / 10:g} %", page.moment(one.at))
    for metric in record.metrics:
        yield from (page.rate(tally) for tally in metric.totals.values())
        yield page.e_value(metric.log_limit)
        yield page.e_value(max(max(look.log_e, look.log_e_absolute) for look in metric.looks))
        yield f"{100 * metric.tolerance:.2g} points"
    for histogram in record.histograms:
        yield from (str(count) for counts in histogram.counts.values() for count in counts)
    for error in record.errors:
        yield from (str(count) for count in error.counts.values())
    yield from (page.moment(at) for at in [*(one.at for one in record.checks), *(one.at for one in record.acts)])
    yield from (page.moment(step.start) for step in record.steps)


def test_every_number_of_the_record_stands_in_a_table() -> None:
    shown = {cell for row in cells() for cell in row}
    histogram = {str(count) for one in bad_run().histograms for counts in one.counts.values() for count in counts}
    assert {number for number in numbers() if number not in shown} <= ({"0"} & histogram)


def test_each_track_stands_in_its_column() -> None:
    (late,) = [metric for metric in bad_run().metrics if metric.name == "slow_ttft"]
    canary, baseline, stable = (page.rate(late.totals[track]) for track in ("canary", "baseline", "stable"))
    (row,) = [row for row in cells() if row[0] == late.words]
    assert row[1:5] == [canary, baseline, stable, "2 points"]
    assert float(row[5]) > float(row[6]) == 500, "the run was taken back"
    first = bad_run().histograms[0]
    counts = [str(first.counts[track][5]) for track in ("canary", "baseline", "stable")]
    assert ["up to 0.25 s", *counts] in cells()
    assert ["503 no_engine", "17", "0", "3"] in cells()


def test_each_verdict_stands_with_its_reason() -> None:
    rows = cells()
    for check in bad_run().checks:
        assert [page.moment(check.at), check.name, check.outcome, check.reason] in rows
    for step in bad_run().steps:
        assert [page.moment(step.start), f"Step {step.name}", step.outcome, step.reason] in rows
    gate = [page.moment(BEGIN + 900), "Gate 10 %", "approved", f"by bert on desk-9 at {page.moment(BEGIN + 960)}"]
    assert gate in rows
    assert [page.moment(BEGIN + 400), "controller", "desk-4", "share of small", "0/0", "10/10"] in rows


def test_both_grounds_and_paper_have_every_colour_that_is_used() -> None:
    used = {role for drawing in plots(bad_run()) for role in re.findall(r"var\(--([a-z0-9-]+)\)", svg(drawing))}
    assert used <= set(LIGHT)
    assert set(LIGHT) == set(DARK)
    style = text_of(next(iter(tree().iter("style"))))
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", style)) <= set(LIGHT)


def plots(record: Record) -> list[Drawing]:
    found = [charts.shares(record), charts.evidence(record), charts.bad_events(record)]
    return found + [charts.histogram(one) for one in record.histograms]


def lines(drawing: Drawing, role: str) -> list[Line]:
    return [one for one in drawing.shapes if isinstance(one, Line) and one.role == role and len(one.points) > 2]


def test_the_share_falls_to_nothing_at_the_rollback() -> None:
    (canary,) = lines(charts.shares(bad_run()), "canary")
    heights = [y for _, y in canary.points]
    assert heights[0] == heights[-1] == max(heights), "it begins and ends at no share; y grows downwards"
    assert min(heights) < max(heights)
    assert all(x0 == x1 or y0 == y1 for (x0, y0), (x1, y1) in pairwise(canary.points)), (
        "a share jumps, it does not slide"
    )
    assert list(canary.points) == sorted(canary.points, key=lambda point: point[0])


def test_the_evidence_crosses_the_limit_only_in_the_run_that_was_taken_back() -> None:
    def highest(record: Record) -> float:
        drawing = charts.evidence(record)
        (limit,) = [one for one in drawing.shapes if isinstance(one, Line) and one.role == "limit"]
        series = [one for number in range(5) for one in lines(drawing, f"series-{number}")]
        return limit.points[0][1] - min(y for one in series for _, y in one.points)

    assert highest(bad_run()) > 0
    assert highest(run(bad=False)) < 0


def test_each_step_has_a_line_of_its_own() -> None:
    looks = {look.step for metric in bad_run().metrics for look in metric.looks}
    assert len(lines(charts.evidence(bad_run()), "series-3")) == len(looks) == 2


def test_a_histogram_shows_percent_of_each_track_and_says_the_counts() -> None:
    one = Histogram(
        title="T", edges=(0.1, 0.2), counts={"canary": (1, 3, 0), "stable": (10, 10, 0), "baseline": (0, 0, 0)}
    )
    text = svg(charts.histogram(one))
    assert "<title>canary: 3 (75 %) up to 0.2 s</title>" in text
    assert "<title>stable: 10 (50 %) up to 0.1 s</title>" in text
    assert "over 0.2" not in text, "a class that nobody fell into, at the end"
    assert "baseline:" not in text, "nothing was measured there"
    nothing = one.model_copy(update={"counts": {}})
    assert "nothing was measured" in svg(charts.histogram(nothing))


def test_a_run_that_has_only_begun_has_a_report_too() -> None:
    record = Record(
        run="r", pool="p", release_before="a", release="b", same_model=True, who="w", started=BEGIN, outcome="running",
        reason="Preflight.", false_rollback_percent=1.0,
    )  # fmt: skip
    root = ET.fromstring(page.html(record).removeprefix("<!DOCTYPE html>\n"))
    assert "Still running Preflight." in text_of(root)
    for drawing in plots(record):
        assert png(drawing).startswith(b"\x89PNG")


def pixels(file: bytes) -> tuple[int, int, list[bytes]]:
    """Reads the chunks of a PNG as any program does, and checks their sums."""
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    at, data, header = 8, b"", b""
    while at < len(file):
        (size,) = struct.unpack(">I", file[at : at + 4])
        kind, content = file[at + 4 : at + 8], file[at + 8 : at + 8 + size]
        (told,) = struct.unpack(">I", file[at + 8 + size : at + 12 + size])
        assert told == zlib.crc32(kind + content)
        header, data = (content, data) if kind == b"IHDR" else (header, data + content if kind == b"IDAT" else data)
        at += 12 + size
    width, height, depth, colours, *rest = struct.unpack(">IIBBBBB", header)
    assert (depth, colours, rest) == (8, 2, [0, 0, 0])
    raw = zlib.decompress(data)
    rows = [raw[row * (3 * width + 1) : (row + 1) * (3 * width + 1)] for row in range(height)]
    assert all(row[0] == 0 for row in rows)
    return width, height, [row[1:] for row in rows]


def colour(name: str) -> bytes:
    return bytes.fromhex(LIGHT[name].removeprefix("#"))


def test_a_picture_has_what_was_drawn_where_it_was_drawn() -> None:
    drawing = Drawing("x", 40, 30)
    drawing.bar(10, 10, 5, 8, "canary")
    drawing.line([(0, 25), (40, 25)], "limit", 2)
    drawing.line([(0, 4), (40, 4)], "baseline", 2, 5)
    width, height, rows = pixels(png(drawing))
    assert (width, height) == (80, 60)

    def at(x: int, y: int) -> bytes:
        return rows[y][3 * x : 3 * x + 3]

    assert (at(20, 20), at(29, 35), at(30, 20), at(20, 36)) == (*[colour("canary")] * 2, *[colour("ground")] * 2)
    assert at(40, 50) == colour("limit")
    dashed = [at(x, 8) == colour("baseline") for x in range(5, 75)]
    assert 25 < sum(dashed) < 45, "about half of it is gap"


def test_a_slanted_line_and_letters_cover_what_they_should() -> None:
    drawing = Drawing("x", 60, 60)
    drawing.line([(10, 10), (50, 30)], "canary", 2)
    drawing.words(5, 55, "E-", "text", size=20)
    _, _, rows = pixels(png(drawing))
    inked = [(x, y) for y, row in enumerate(rows) for x in range(120) if row[3 * x : 3 * x + 3] == colour("canary")]
    assert all(abs((y - 20) - (x - 20) / 2) < 3 for x, y in inked)
    assert {x for x, _ in inked} >= set(range(24, 96))
    dark = [(x, y) for y, row in enumerate(rows[70:], 70) for x in range(120) if row[3 * x] < 128]
    assert min(y for _, y in dark) < 85 < 108 < max(y for _, y in dark), "14 pixels high, at twice the size"


def test_every_letter_of_a_plot_has_a_shape() -> None:
    from rackserve.canary.report.letters import strokes

    unknown = strokes("\x00")
    used = {letter for one in plots(bad_run()) for shape in one.shapes for letter in getattr(shape, "text", "")}
    assert [letter for letter in sorted(used) if strokes(letter) == unknown] == []


def test_the_files_are_whole_and_the_json_reads_back(tmp_path: Path) -> None:
    files = write(bad_run(), tmp_path / "new" / "report")
    names = {file.name for file in files}
    assert names == {
        "report.html", "report.json", "shares.png", "evidence.png", "bad-events.png", "histogram-1.png", "histogram-2.png"
    }  # fmt: skip
    assert {file.name for file in (tmp_path / "new" / "report").iterdir()} == names, "nothing half-written is left"
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in files)
    assert read(tmp_path / "new" / "report" / "report.json") == bad_run()
    assert json.loads((tmp_path / "new" / "report" / "report.json").read_text())["outcome"] == "rolled_back"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"file: the report cannot be written: .*Name another directory") as caught:
        write(run(bad=True, metrics=(), histograms=()), tmp_path / "file")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "is no record of a run: run: Field required"), ("[", "is no record of a run: the whole: Invalid JSON")],
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(ReportError, match=re.escape(f"x.json: {said}")) as caught:
        read(file)
    assert caught.value.exit_code == 2
    with pytest.raises(ReportError, match=r"absent\.json: cannot be read: No such file"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shares": (SharePoint(at=2.0, canary=0, baseline=0), SharePoint(at=1.0, canary=0, baseline=0))}, "not in the order"),
        ({"shares": (SharePoint(at=1.0, canary=600, baseline=600),)}, "shares are more than all requests"),
        ({"ended": BEGIN - 1}, "the run ends before it starts"),
        ({"outcome": "fine"}, "outcome"),
        ({"started": math.nan}, "started"),
        ({"unheard": 1}, "unheard"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        run(bad=True, **change)


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="3 bad events of 2 requests"):
        Tally(bad=3, of=2)
    with pytest.raises(ValidationError, match="canary has 1 counts for 1 edges"):
        Histogram(title="T", edges=(1.0,), counts={"canary": (1,)})
    with pytest.raises(ValidationError, match="edges do not rise"):
        Histogram(title="T", edges=(2.0, 1.0), counts={})


def test_edges_of_a_plot_have_round_numbers() -> None:
    assert steps(0.97) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert steps(26) == [0, 10, 20]
    assert steps(0) == [0]
    assert times(1000, 1600) == [1080, 1200, 1320, 1440, 1560] or times(1000, 1600)[0] % 60 == 0
    frame = Frame(10, 20, 100, 50, 0, 10, 0, 5)
    assert (frame.x(5), frame.y(5), frame.y(0), frame.y(99)) == (60, 20, 70, 20)
    assert (page.duration(59.6), page.duration(61), page.duration(3700)) == ("1 min 0 s", "1 min 1 s", "1 h 1 min")
