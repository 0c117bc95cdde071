"""Request lines in files: one series of files per retention class, rotated by size and age, bounded together.

Names carry a number that only rises, `CLASS.0000000012.jsonl`, so that the order does not hang on the clock. A full
disk costs lines in the files, not the service: they are counted, and written again once there is space.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rackserve.traffic_log.settings import Retention

_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,39})\.(\d{10})\.jsonl")
_MODE = 0o640
# The file itself is good and is written on; a new one for each attempt would fill the directory.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_DAY_SECONDS = 86_400


@dataclass
class _Open:
    number: int
    descriptor: int
    size: int
    since: float


@dataclass(frozen=True)
class Kept:
    """A file of lines; written: wall clock of the last write."""

    number: int
    retention_class: str
    path: Path
    size: int
    written: float


def kept(directory: Path) -> list[Kept]:
    """Oldest first. OSError: the directory cannot be read."""
    found = []
    for entry in os.scandir(directory):
        match = _NAME.fullmatch(entry.name)
        if match and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            found.append(Kept(int(match[2]), match[1], Path(entry.path), status.st_size, status.st_mtime))
    return sorted(found, key=lambda one: one.number)


def last_lines(directory: Path, bytes_each: int = 2**20) -> list[bytes]:
    """Whole lines at the end of the two newest files of each class. OSError: the directory cannot be read."""
    lines: list[bytes] = []
    seen: dict[str, int] = {}
    for one in reversed(kept(directory)):
        seen[one.retention_class] = seen.get(one.retention_class, 0) + 1
        if seen[one.retention_class] > 2:
            continue
        with one.path.open("rb") as file:
            file.seek(max(one.size - bytes_each, 0))
            text = file.read(bytes_each)
        lines += text.split(b"\n")[(1 if one.size > bytes_each else 0) : -1]
    return lines


class Files:
    """Not for several threads. `say` gets one sentence when writing fails, and one when it works again."""

    def __init__(
        self,
        directory: Path,
        retention: Retention,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unwritten = 0
        self._directory, self._retention, self._say = directory, retention, say
        self._clock, self._steady = clock, steady
        self._open: dict[str, _Open] = {}
        self._failing: int | None = None
        self._number = 0
        self._others = 0
        self.tidy()

    def use(self, retention: Retention) -> None:
        """Other rules from now on; files that no rule names any more are kept by the default one."""
        self._retention = retention
        self.close()
        self.tidy()

    def class_of(self, lane: str, tenant: str) -> str:
        """A tenant's own class goes before that of its lane."""
        rules = self._retention
        return rules.tenants.get(tenant) or rules.lanes.get(lane) or rules.default

    def write(self, batches: Mapping[str, Iterable[bytes]]) -> None:
        """One write per class. Never raises OSError: what cannot be written is counted."""
        for name, lines in batches.items():
            whole = list(lines)
            if not whole:
                continue
            try:
                self._append(name, b"\n".join(whole) + b"\n")
            except OSError as error:
                self.unwritten += len(whole)
                if error.errno not in _PASSING:
                    self._drop(name)
                if self._failing != error.errno:
                    self._say(
                        f"request lines cannot be written to {self._directory}: {error.strerror}; counting goes on"
                    )
                self._failing = error.errno
            else:
                if self._failing is not None:
                    self._say(f"request lines are written again; {self.unwritten} were not since this service started")
                self._failing = None

    def tidy(self) -> None:
        """Ends files that are old enough, deletes those past their time and, over the bound, the oldest. Never raises OSError."""
        try:
            for name, file in list(self._open.items()):
                if self._steady() - file.since >= self._file_seconds(name) or os.fstat(file.descriptor).st_nlink == 0:
                    self._drop(name)
            self._delete(0)
        except OSError as error:
            self._say(f"files in {self._directory} cannot be tidied: {error.strerror}")

    def close(self) -> None:
        for name in list(self._open):
            self._drop(name)

    @property
    def _file_bytes(self) -> int:
        """Small enough that the bound can be kept with a file open in every class."""
        rules = self._retention
        return min(rules.file_bytes, rules.total_bytes // (2 * len(rules.classes)))

    def _file_seconds(self, name: str) -> float:
        return min(self._retention.file_seconds, self._days(name) * _DAY_SECONDS / 4)

    def _days(self, name: str) -> float:
        rules = self._retention
        return rules.classes.get(name, rules.classes[rules.default]).days

    def _append(self, name: str, text: bytes) -> None:
        file = self._open.get(name)
        if file is not None and file.size and file.size + len(text) > self._file_bytes:
            self._drop(name)
            file = None
        if self._others + self._opened + len(text) > self._retention.total_bytes:
            self._delete(len(text))
            file = self._open.get(name)
        if file is None:
            file = self._start(name)
        written = os.write(file.descriptor, text)
        if written < len(text):
            # The disk is full. Half a line would spoil the next one.
            os.ftruncate(file.descriptor, file.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.size += written

    @property
    def _opened(self) -> int:
        return sum(file.size for file in self._open.values())

    def _start(self, name: str) -> _Open:
        number = self._number + 1
        path = self._directory / f"{name}.{number:010d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        os.fchmod(descriptor, _MODE)
        self._number = number
        self._open[name] = _Open(number, descriptor, 0, self._steady())
        return self._open[name]

    def _drop(self, name: str) -> None:
        file = self._open.pop(name, None)
        if file is not None:
            self._others += file.size
            os.close(file.descriptor)

    def _delete(self, needed: int) -> None:
        """Looks at the directory anew, so that what somebody else removed or added counts too."""
        files = kept(self._directory)
        opened = {file.number for file in self._open.values()}
        self._number = max([self._number, *(one.number for one in files)])
        total = sum(one.size for one in files)
        now = self._clock()
        for one in files:
            over = total + needed > self._retention.total_bytes
            aged = one.number not in opened and now - one.written > self._days(one.retention_class) * _DAY_SECONDS
            if not over and not aged:
                continue
            if one.number in opened:
                self._drop(one.retention_class)
            one.path.unlink(missing_ok=True)
            total -= one.size
        self._others = total - self._opened
