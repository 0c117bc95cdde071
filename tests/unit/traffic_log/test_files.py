"""Files of request lines: rotation, bounds, a full disk, a clock that goes back."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from rackserve.traffic_log.files import Files, kept, last_lines
from rackserve.traffic_log.settings import Retention

DAY = 86_400.0


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def retention(**changes: Any) -> Retention:
    values = {"total_bytes": 80_000, "file_bytes": 10_000, "classes": {"default": {"days": 4}, "short": {"days": 1}}}
    return Retention.model_validate(values | {"lanes": {"batch": "short"}, "tenants": {"kept": "default"}} | changes)


def test_classes_by_lane_and_tenant(tmp_path: Path) -> None:
    files = Files(tmp_path, retention(), print)
    assert [files.class_of("batch", "x"), files.class_of("batch", "kept"), files.class_of("chat", "x")] == [
        *("short", "default", "default")
    ]
    files.write({"default": [b"a", b"b"], "short": [b"c"]})
    assert sorted(last_lines(tmp_path)) == [b"a", b"b", b"c"]
    assert {stat.S_IMODE(one.path.stat().st_mode) for one in kept(tmp_path)} == {0o640}


def test_the_oldest_go_when_all_together_are_too_large(tmp_path: Path) -> None:
    files = Files(tmp_path, retention(), print)
    for number in range(300):
        files.write({"default" if number % 2 else "short": [b"%04d" % number + b"x" * 995]})
        assert sum(one.size for one in kept(tmp_path)) <= 80_000
    numbers = sorted(int(line[:4]) for line in last_lines(tmp_path))
    assert numbers[-1] == 299
    assert len(kept(tmp_path)) > 4
    assert kept(tmp_path)[0].number > 1


def test_age_by_the_clock_and_a_clock_that_goes_back(tmp_path: Path) -> None:
    wall, steady = Clock(os.stat(tmp_path).st_mtime), Clock(0.0)
    files = Files(tmp_path, retention(), print, wall, steady)
    files.write({"short": [b"old"], "default": [b"older"]})
    wall.now -= 400 * DAY
    steady.now += 2 * DAY
    files.tidy()
    assert len(kept(tmp_path)) == 2
    files.write({"short": [b"new"]})
    assert [one.number for one in kept(tmp_path)] == [1, 2, 3]
    wall.now += 402 * DAY
    files.close()
    files.tidy()
    assert {one.retention_class for one in kept(tmp_path)} == {"default"}


def test_a_full_disk_is_said_once_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    files = Files(tmp_path, retention(), said.append)
    files.write({"default": [b"first"]})
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:3]))
        files.write({"default": [b"second", b"third"]})
        files.write({"default": [b"fourth"]})
    with monkeypatch.context() as patched:

        def full(descriptor: int, text: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "write", full)
        files.write({"default": [b"fifth"]})
    assert (files.unwritten, len(said)) == (4, 1)
    files.write({"default": [b"sixth"]})
    assert len(said) == 2
    assert last_lines(tmp_path) == [b"first", b"sixth"]
    assert len(kept(tmp_path)) == 1


def test_a_file_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    files = Files(tmp_path, retention(), print)
    files.write({"default": [b"gone"]})
    kept(tmp_path)[0].path.unlink()
    files.tidy()
    files.write({"default": [b"there"]})
    assert last_lines(tmp_path) == [b"there"]
