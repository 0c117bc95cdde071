"""Runs on a GPU node: what its engines were started with, as their own launcher wrote it. Standard library only."""

import json
from pathlib import Path
from typing import Any


def start_of(path: Path) -> dict[str, Any]:
    """The file is there for as long as the unit runs (RuntimeDirectory=), and made anew with each start."""
    try:
        text, made = path.read_text(), path.stat().st_mtime_ns
        release = json.loads(text)["release"]
    except FileNotFoundError:
        return {"release": None, "started": "", "error": f"it does not run: there is no {path}"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"release": None, "started": "", "error": f"{path} cannot be read: {error}"}
    return {"release": str(release), "started": str(made), "error": ""}


def answer(asked: dict[str, Any]) -> None:
    print(json.dumps({name: start_of(Path(asked["root"]) / name / "started.json") for name in asked["engines"]}))
