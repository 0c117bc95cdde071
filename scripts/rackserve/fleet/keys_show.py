"""What scripts/keys shows, and which exit code it ends with."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from rackserve.definition.load import Inventory, InventoryError
from rackserve.fleet import keys, keys_command
from rackserve.fleet.haproxy_files import RenderError
from rackserve.fleet.keys_command import Edit, Source

err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def refusals() -> Iterator[None]:
    """The one place where what operators can mend becomes a line and an exit code."""
    try:
        yield
    except keys.KeyRefused as error:
        err.print(f"keys: {error}", markup=False)
        raise typer.Exit(error.exit_code) from None
    except (InventoryError, RenderError) as error:
        err.print(f"keys: {error}", markup=False)
        raise typer.Exit(2) from None
    except OSError as error:
        err.print(f"keys: {error.filename}: {error.strerror}", markup=False)
        raise typer.Exit(1) from None


def show_edit(edit: Edit) -> None:
    err.print(f"{edit.file.resolve()}:", markup=False)
    for line in edit.lines:
        err.print(f"  {line}", markup=False)


def carry_out(
    where: Source, edit: Edit, key: keys.NewKey | None, answer: dict[str, Any], options: tuple[bool, bool]
) -> None:
    """Writes the inventory, shows a new key, then brings the balancers to it. Exit 1 or 3: not on all of them."""
    as_json, dry_run = options
    show_edit(edit)
    if dry_run:
        err.print("dry run: nothing was changed")
        print(json.dumps(answer | {"dry_run": True})) if as_json else None
        return
    inventory = keys_command.commit(where, edit)
    if key is not None and not as_json:
        # Before anything can fail: what is lost here is lost for ever.
        print(key.key, flush=True)
        err.print("This key is shown once and stored nowhere. Hand it over, then forget it.")
    finish(inventory, answer | ({"key": key.key} if key else {}), as_json)


def finish(inventory: Inventory, answer: dict[str, Any], as_json: bool) -> None:
    outcome = keys_command.bring(inventory)
    report = keys_command.report(outcome)
    if as_json:
        print(json.dumps(answer | {"balancers": report}), flush=True)
    for name, one in report.items():
        err.print(f"{name}: {one['state']}{': ' + one['reason'] if 'reason' in one else ''}", markup=False)
        if one.get("waiting"):
            err.print(f"{name}: other edits wait for site.yml: {', '.join(one['waiting'])}", markup=False)
    if not outcome.complete:
        err.print("The inventory has the change. Bring it to the others with: scripts/keys sync (or site.yml).")
        raise typer.Exit(outcome.exit_code)
