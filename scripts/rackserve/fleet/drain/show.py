"""What scripts/drain and scripts/undrain show, and which exit code they end with."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console

from rackserve.definition.load import InventoryError
from rackserve.fleet.drain.decide import Permission, Step
from rackserve.fleet.drain.fleet import UnknownTarget
from rackserve.fleet.drain.out import Exit, Result
from rackserve.fleet.drain.sight import Place, Sight
from rackserve.fleet.errors import FleetError
from rackserve.fleet.haproxy_files import RenderError
from rackserve.fleet.period import words

err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def refusals(command: str, interrupted: str = "") -> Iterator[None]:
    """The one place where what operators can mend becomes a line and an exit code. `interrupted`: how things stand then."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except (InventoryError, RenderError, UnknownTarget) as error:
        err.print(f"{command}: {error}", markup=False)
        raise typer.Exit(2) from None
    except FleetError as error:
        err.print(f"{command}: {error}", markup=False)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        err.print(f"\n{command}: interrupted. {interrupted}", markup=False)
        raise typer.Exit(Exit.HELD) from None


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def show_plan(seen: Sight, names: tuple[str, ...], permission: Permission) -> None:
    """How things stand, for and against."""
    for name in names:
        at = ", ".join(f"{balancer}: {state_of(each.engines.get(name))}" for balancer, each in seen.balancers.items())
        page = seen.pages.get(name)
        own = "" if page is None else f"; it runs {page.requests:g}" if page.requests is not None else f"; {page.error}"
        err.print(f"{name} of pool {seen.engines[name].pool} on {seen.engines[name].node}: {at}{own}", markup=False)
    for note in permission.notes:
        err.print(f"  {note}", markup=False)
    for reason in permission.reasons:
        err.print(f"  against it: {reason}", markup=False)


def state_of(place: Place | None) -> str:
    if place is None:
        return "unknown there"
    words_of = "drained" if place.drained else "maintenance" if place.maintained else "in service"
    if not place.running:
        words_of += ", its checks fail"
    streams = place.streams + place.old_streams
    return f"{words_of}, {streams} requests" + (f" ({place.old_streams} in old processes)" if place.old_streams else "")


class Progress:
    """One line that changes on a terminal; else a line when something has changed."""

    def __init__(self) -> None:
        self._status = err.status("looking") if err.is_terminal else None
        self._last = ""

    def __enter__(self) -> "Progress":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._status:
            self._status.stop()

    def step(self, step: Step) -> None:
        left = f", {words(step.seconds_left)} left" if step.seconds_left > 0 else ""
        self.text(f"{step.kind}: {step.reason}", left)

    def text(self, told: str, more: str = "") -> None:
        if self._status:
            self._status.update(f"{told}{more}".replace("[", "\\["))
        elif told != self._last:
            err.print(f"{told}{more}", markup=False)
        self._last = told


def end(command: str, result: Result, as_json: bool, **more: Any) -> NoReturn:
    """The last word, and the command's end."""
    for note in result.notes:
        err.print(f"  {note}", markup=False)
    for name, why in result.undone.items():
        err.print(f"  undone at {name}: {why}", markup=False)
    err.print(f"{command}: {result.said}", markup=False)
    if as_json:
        print(json.dumps({**more, **asdict(result), "code": int(result.code)}))
    raise typer.Exit(int(result.code))
