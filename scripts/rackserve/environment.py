"""Import this first in a script: it re-executes the script in the project's own Python environment.

Scripts start with ``#!/usr/bin/env python3`` so that they run by path from anywhere, but their libraries live in
``.venv`` (made by ``make venv``). Importing this module is the one side effect that has to happen before any other import.
Where the libraries are importable already (pipx, a system package, CI), nothing happens.
"""

import importlib.util
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_ENVIRONMENT = REPOSITORY / ".venv"


def _enter() -> None:
    if Path(sys.prefix).resolve() == _ENVIRONMENT.resolve():
        return
    python = _ENVIRONMENT / "bin" / "python"
    if python.exists():
        try:
            os.execv(python, [str(python), *sys.argv])
        except PermissionError:
            name = Path(sys.argv[0]).name
            sys.stderr.write(
                f"{name}: this user may not run {python}. Run {name} as the user who made it, or as root.\n"
            )
            raise SystemExit(2) from None
    if importlib.util.find_spec("typer") is None or importlib.util.find_spec("pydantic") is None:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: no Python environment in {_ENVIRONMENT}. Run `make venv` first.\n")
        raise SystemExit(2)


_enter()
