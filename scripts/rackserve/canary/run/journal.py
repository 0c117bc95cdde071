"""The run's directory: its plan, where it stands, what people order, and what became of it.

    plan.json           written once
    entries/00000042    where the run stands: a checksum, then the record. Written before each effect and after it
    orders/, answers/   what other processes ask, and what came of it
    timeline.jsonl      for the report; nothing hangs on it

An entry is on disk under another name before it gets its own, and the directory after it, so that a kill at any moment leaves the
one before or the whole one. What is damaged all the same is said, and never taken for nothing.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Record
from rackserve.canary.run.world import Frozen, Order

_ENTRY = re.compile(r"\d{8}")
_ORDER = re.compile(r"\d{19}-[a-z]+-[0-9a-f]{8}")
_KEPT = 100
Kind = Literal["pause", "resume", "approve", "abort"]


class JournalError(Exception):
    """Says which file, what happened, and what to do."""

    exit_code = 1


class _Ordered(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    run: str
    by: str
    step: float | None = None


@dataclass(frozen=True)
class Found:
    """What lay there. `damaged`: entries newer than the record's that cannot be read."""

    plan: Plan
    record: Record
    damaged: tuple[str, ...] = ()


def write_whole(path: Path, content: bytes, fsync: Callable[[int], None] = os.fsync) -> None:
    """On disk as a whole, under its name, when this returns. Raises OSError, and then the old file is still there."""
    candidate = path.with_name(f".{path.name}.new")
    handle = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        fsync(handle)
    finally:
        os.close(handle)
    os.replace(candidate, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync(folder)
    finally:
        os.close(folder)


Write = Callable[[Path, bytes], None]


class Journal:
    """Of one run. `write` is how a file gets on disk."""

    def __init__(self, directory: Path, write: Write = write_whole) -> None:
        self.directory = directory
        self._write = write
        self._number = 0

    def create(self, plan: Plan, record: Record) -> None:
        """Raises JournalError."""
        try:
            for part in ("entries", "orders", "answers"):
                (self.directory / part).mkdir(parents=True, exist_ok=True)
            self._write(self.directory / "plan.json", _sealed(plan.model_dump_json()))
        except OSError as error:
            raise self._failed("plan.json", error) from error
        self.put(record)

    def put(self, record: Record) -> None:
        """Raises JournalError, and then the entry before is still the newest."""
        path = self.directory / "entries" / f"{self._number + 1:08}"
        try:
            self._write(path, _sealed(record.model_dump_json()))
        except OSError as error:
            raise self._failed(f"entries/{path.name}", error) from error
        self._number += 1
        if self._number > _KEPT:
            with suppress(OSError):
                (path.parent / f"{self._number - _KEPT:08}").unlink(missing_ok=True)

    def read(self) -> Found:
        """The newest whole record. Raises JournalError where there is no plan or no whole record."""
        plan = self._plan()
        folder = self.directory / "entries"
        names = sorted((one.name for one in folder.iterdir() if _ENTRY.fullmatch(one.name)), reverse=True)
        self._number = int(names[0]) if names else 0
        damaged: list[str] = []
        for name in names:
            try:
                return Found(plan, Record.model_validate_json(_opened((folder / name).read_bytes())), tuple(damaged))
            except (OSError, ValueError) as error:
                damaged.append(f"{folder / name}: {_short(error)}")
        raise JournalError(
            f"{folder} has no whole entry ({'; '.join(damaged) or 'it is empty'}), so nobody knows where run {plan.run} stands. "
            f"Take the traffic back with scripts/rollback {plan.pool}, look at the engines with scripts/status, then remove "
            f"{self.directory}"
        )

    def _plan(self) -> Plan:
        path = self.directory / "plan.json"
        try:
            return Plan.model_validate_json(_opened(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise JournalError(
                f"{path} cannot be read ({_short(error)}), so the run cannot go on. Take the traffic back with scripts/rollback, "
                f"then remove {self.directory}"
            ) from error

    def _failed(self, name: str, error: OSError) -> JournalError:
        return JournalError(
            f"{self.directory / name} cannot be written ({error.strerror or error}): nothing rises and no engine moves before it can. "
            "Make room there; the run goes on by itself. Traffic can be taken back at any time"
        )

    def order(self, kind: Kind, run: str, by: str, step: float | None, name: str) -> None:
        """For another process, which looks at it within seconds. `name`: of `name_of`. Raises JournalError."""
        path = self.directory / "orders" / name
        try:
            self._write(path, _sealed(_Ordered(kind=kind, run=run, by=by, step=step).model_dump_json()))
        except OSError as error:
            raise JournalError(
                f"{path} cannot be written ({error.strerror or error}), so the run is not told"
            ) from error

    def orders(self, answered: Mapping[str, str]) -> tuple[Order, ...]:
        """Those without an answer, oldest first. One that cannot be read is left alone: whoever wrote it gets no answer."""
        try:
            names = sorted(one.name for one in (self.directory / "orders").iterdir() if _ORDER.fullmatch(one.name))
        except OSError:
            return ()
        found = []
        for name in names:
            if name not in answered:
                with suppress(OSError, ValueError):
                    said = _Ordered.model_validate_json(_opened((self.directory / "orders" / name).read_bytes()))
                    found.append(Order(name, said.kind, said.run, said.by, said.step))
        return tuple(found)

    def answer(self, name: str, said: str) -> None:
        """Nothing hangs on it but the patience of who asked."""
        with suppress(OSError):
            self._write(self.directory / "answers" / name, said.encode())

    def answered(self, name: str) -> str | None:
        try:
            return (self.directory / "answers" / name).read_text()
        except OSError:
            return None

    def note(self, line: Frozen) -> None:
        """For the report. Never raises: a report with a gap is better than a run that stops for it."""
        with suppress(OSError), (self.directory / "timeline.jsonl").open("a") as file:
            file.write(f"{line.model_dump_json()}\n")

    def timeline(self) -> str:
        """Empty where there is none."""
        try:
            return (self.directory / "timeline.jsonl").read_text()
        except OSError:
            return ""


def name_of(kind: Kind, wall_nanoseconds: int, chance: str) -> str:
    """Of an order. Sorts by time; `chance`: eight hexadecimal digits, so that two at one moment have two names."""
    name = f"{wall_nanoseconds:019}-{kind}-{chance}"
    if not _ORDER.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an order")
    return name


def _sealed(body: str) -> bytes:
    return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n".encode()


def _opened(content: bytes) -> str:
    """Raises ValueError where it is not what was written."""
    seal, _, rest = content.decode().partition("\n")
    body = rest.removesuffix("\n")
    if rest == body or hashlib.sha256(body.encode()).hexdigest() != seal:
        raise ValueError("it is torn: its checksum does not fit")
    return body


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
