"""The one place where what operators can mend becomes a line and an exit code."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from rackserve.canary.command.load import NotKnown
from rackserve.canary.quality.read import PromptsError
from rackserve.canary.report.record import Record
from rackserve.canary.report.write import ReportError
from rackserve.canary.run.command import Row, UnknownRun
from rackserve.canary.run.journal import Journal, JournalError
from rackserve.canary.run.lock import Taken
from rackserve.canary.run.plan import Refused
from rackserve.canary.run.reported import reported
from rackserve.canary.run.timeline import parsed
from rackserve.canary.world.site import Unknown
from rackserve.definition.load import InventoryError
from rackserve.fleet.errors import FleetError
from rackserve.fleet.haproxy_files import RenderError

_OWN = (NotKnown, PromptsError, ReportError, UnknownRun, JournalError, Taken, Refused, Unknown, FleetError)


@contextmanager
def refusals() -> Iterator[None]:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except _OWN as error:
        sys.stderr.write(f"canary: {error}\n")
        raise typer.Exit(error.exit_code) from None
    except (InventoryError, RenderError) as error:
        sys.stderr.write(f"canary: {error}\n")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write(
            "\ncanary: interrupted. What stands, stands: a canary keeps its share, and nobody judges it. scripts/canary resume RUN goes "
            "on; scripts/rollback POOL takes the share back now\n"
        )
        raise typer.Exit(4) from None


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def record_of(row: Row) -> Record:
    """For the report. Raises JournalError."""
    if row.plan is None or row.record is None:
        raise JournalError(row.damaged)
    return reported(row.plan, row.record, parsed(Journal(row.directory).timeline()))
