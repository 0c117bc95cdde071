"""The report's files, in a directory of their own."""

import contextlib
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from rackserve.canary.report import charts
from rackserve.canary.report.page import html
from rackserve.canary.report.png import png
from rackserve.canary.report.record import Record


class ReportError(Exception):
    """A record cannot be read, or the report cannot be written: says which file and why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def write(record: Record, directory: Path) -> tuple[Path, ...]:
    """Writes report.html, report.json and one PNG for each plot; returns their paths. Each file is whole or not there.

    Raises ReportError when the directory cannot be written.
    """
    plots = {"shares": charts.shares(record), "evidence": charts.evidence(record)}
    plots["bad-events"] = charts.bad_events(record)
    plots |= {f"histogram-{number}": charts.histogram(one) for number, one in enumerate(record.histograms, 1)}
    files = {
        "report.html": html(record).encode(),
        "report.json": (record.model_dump_json(indent=2) + "\n").encode(),
        **{f"{name}.png": png(plot) for name, plot in plots.items()},
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _replace(directory / name, content)
    except OSError as error:
        raise ReportError(
            f"{error.filename or directory}: the report cannot be written: {error.strerror}. Name another directory, or make room.",
            exit_code=1,
        ) from error
    return tuple(directory / name for name in files)


def read(path: Path) -> Record:
    """A record that was written as JSON. Raises ReportError."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}", exit_code=2) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ReportError(f"{path}: is no record of a run: {place}: {first['msg']}", exit_code=2) from error


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp's files are for their owner alone; a report is to be passed on.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
