"""The programs that look through files and journals on a node, run here as they run there."""

import json
import os
import sys
from pathlib import Path

import pytest
from rackserve.fleet.errors import NonsenseError, RefusedError
from rackserve.fleet.request_lines import Lines, holding, journal
from rackserve.fleet.ssh import CommandHost
from unit.status.playing import PlayedHost
from unit.traffic_log.making import line

HOST = CommandHost("lb1", "192.0.2.1", (sys.executable, "-"))
NOW = 1_764_403_200.0
ID = "abcdefgh-1"


def write(directory: Path, name: str, *lines: bytes, age_seconds: float = 0) -> Path:
    path = directory / name
    path.write_bytes(b"".join(one + b"\n" for one in lines))
    os.utime(path, (NOW - age_seconds,) * 2)
    return path


def look(directory: Path, text: str = f'"{ID}"', since: float = 0, most: int = 100) -> Lines:
    return holding(HOST, text, since, most, 30, str(directory))


def ids(found: Lines) -> list[str]:
    return [json.loads(one)["request_id"] for one in found.lines]


def test_the_newest_lines_of_the_newest_files_come_first(tmp_path: Path) -> None:
    for number, names in ((9, "ab"), (10, "cd")):
        lines = [line(request_id=f"{ID}{name}", pool="small") for name in names]
        write(tmp_path, f"default.{number:010d}.jsonl", *lines)
    write(tmp_path, "7-days.0000000011.jsonl", line(request_id=f"{ID}e", pool="small"))
    write(tmp_path, "notes.txt", line(pool="small"))
    assert [one[-1] for one in ids(look(tmp_path, '"pool": "small"'))] == list("edcba")


def test_an_id_that_is_the_beginning_of_another_is_not_it(tmp_path: Path) -> None:
    write(
        tmp_path, "default.0000000001.jsonl", line(request_id=f"{ID}2"), line(request_id=ID), line(request_id=f"x{ID}")
    )
    assert ids(look(tmp_path)) == [ID]


def test_older_files_and_older_lines_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "default.0000000001.jsonl", line(request_id=ID, time=NOW - 10), age_seconds=7200)
    write(tmp_path, "default.0000000002.jsonl", line(request_id=ID, time=NOW - 5000), line(request_id=ID, time=NOW))
    found = look(tmp_path, since=NOW - 3600)
    assert [json.loads(one)["time"] for one in found.lines] == [NOW]


def test_after_a_clock_went_back_lines_are_found_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    """Half an hour back between the two files: numbers say which is newer, not times."""
    write(tmp_path, "default.0000000001.jsonl", line(request_id=ID, time=NOW), age_seconds=0)
    write(tmp_path, "default.0000000002.jsonl", line(request_id=ID, time=NOW - 1800), age_seconds=1800)
    found = look(tmp_path, since=NOW - 3600)
    assert [json.loads(one)["time"] for one in found.lines] == [NOW - 1800, NOW]


def test_lines_across_the_edge_of_a_block_are_whole_and_garbage_does_not_grow(tmp_path: Path) -> None:
    """Blocks are 1 MiB, read from the end; the long line is kept out and what stands around it is found."""
    filler = [line(request_id=f"{number:08d}") for number in range(3000)]
    garbage = b"x" * 3_000_000 + f'"{ID}"'.encode()
    write(
        tmp_path, "default.0000000001.jsonl",
        line(request_id=ID, time=1.5), *filler, garbage, line(request_id=ID, time=2.5), *filler, line(request_id=ID, time=3.5),
    )  # fmt: skip
    found = look(tmp_path)
    assert [json.loads(one)["time"] for one in found.lines] == [3.5, 2.5, 1.5]
    assert len(ids(look(tmp_path, '"request_id"', most=10_000))) == 6003


def test_the_line_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "default.0000000001.jsonl", line(request_id=ID))
    with path.open("ab") as file:
        file.write(line(request_id="bbbbbbbb")[:-20])
    assert ids(look(tmp_path)) == [ID]


def test_more_lines_than_asked_for_are_cut_at_the_oldest_and_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, "default.0000000001.jsonl", *(line(request_id=ID, time=float(number)) for number in range(5)))
    found = look(tmp_path, most=3)
    assert [json.loads(one)["time"] for one in found.lines] == [4, 3, 2]
    assert found.cut == "only the newest 3 lines"
    assert look(tmp_path, most=5).cut == ""


def test_a_balancer_without_request_lines_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        RefusedError, match=r"192\.0\.2\.1: refused: request_lines; .*none is not there: the log service"
    ):
        look(tmp_path / "none")


def test_an_answer_of_another_form_is_nonsense() -> None:
    for said in ({"lines": "###", "count": 1, "cut": ""}, {"lines": "", "cut": ""}, ["x"]):
        with pytest.raises(NonsenseError):
            holding(PlayedHost("lb1", {"request_lines": said}), "x", 0, 1, 5)


class Journalctl:
    """An executable of that name, first in PATH; what it was asked stands in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.says("")

    def says(self, text: str, code: int = 0, error: str = "") -> None:
        (self.folder / "said").write_text(text)
        program = self.folder / "journalctl"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.folder}/asked\ncat {self.folder}/said\n'
            f'printf "%s" "{error}" >&2\nexit {code}\n'
        )
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journalctl:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Journalctl(tmp_path)


def entry(at: float, message: object, **more: str) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "MESSAGE": message, **more}) + "\n"


def test_the_journal_is_asked_for_units_time_and_pattern_and_answers_in_order_of_time(journalctl: Journalctl) -> None:
    journalctl.says(
        entry(2.5, "later", _SYSTEMD_UNIT="vllm@e1.service")
        + "no json\n"
        + entry(1.5, [104, 105], UNIT="vllm@e1.service")
        + entry(3, None)
        + entry(4, "x" * 5000)
    )
    lines = journal(HOST, ["vllm@*.service"], 10, 20, "a|b", 50, 30)
    assert [(one.at, one.unit, one.text[:5]) for one in lines] == [
        (1.5, "vllm@e1.service", "hi"),
        (2.5, "vllm@e1.service", "later"),
        (3, "", ""),
        (4, "", "xxxxx"),
    ]
    assert len(lines[-1].text) == 1000
    assert {"--since=@10", "--until=@20", "--unit=vllm@*.service", "--grep=a|b", "--lines=50"} <= set(journalctl.asked)


def test_a_journal_without_a_match_is_empty_and_a_broken_one_is_refused(journalctl: Journalctl) -> None:
    journalctl.says("", code=1)
    assert journal(HOST, ["haproxy.service"], 0, None, "x", 5, 30) == ()
    assert not [word for word in journalctl.asked if word.startswith("--until")]
    journalctl.says("", code=1, error="Failed to open files: no")
    with pytest.raises(RefusedError, match="Failed to open files"):
        journal(HOST, ["haproxy.service"], 0, None, "x", 5, 30)
