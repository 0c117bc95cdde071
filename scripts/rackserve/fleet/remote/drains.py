"""Runs on a balancer: the records of drains, one file for each engine, each written whole or not at all. Whoever works on an
engine holds its record and says from time to time that he still does. Standard library only."""

import fcntl
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,100}")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def path_of(directory: Path, engine: str) -> Path:
    if NAME.fullmatch(engine) is None:
        sys.exit(f"{engine!r} is no name of an engine")
    return directory / f"{engine}.json"


def read(path: Path) -> dict[str, Any] | None:
    """None: there is none. A broken one ends the program: it may stand for a drain on its way."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        sys.exit(f"{path} is broken ({error}). Look at it, then remove it, and say again what you want")
    if not isinstance(found, dict):
        sys.exit(f"{path} is broken: no JSON object. Look at it, then remove it, and say again what you want")
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), 0o644)
        json.dump(record, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def held_by_another(record: dict[str, Any] | None, asked: dict[str, Any], now: float) -> bool:
    """Silent for too long: whoever held it is dead, or the clock was set; either way it may be taken over. `dead`: known so."""
    if record is None or record.get("holder", "") in ("", asked["holder"], *asked["dead"]):
        return False
    return bool(0 <= now - record.get("beat", 0) < asked["stale_seconds"])


def hold(directory: Path, asked: dict[str, Any], now: float) -> dict[str, Any]:
    """All of them or none. `fresh`: those that had no record before."""
    found = {engine: read(path_of(directory, engine)) for engine in asked["engines"]}
    taken = {engine: one for engine, one in found.items() if held_by_another(one, asked, now)}
    if not taken:
        for engine, fields in asked["engines"].items():
            before = found[engine] or {}
            write(path_of(directory, engine), {**fields, **before, "holder": asked["holder"], "beat": now})
    return {"taken": taken, "fresh": [engine for engine, one in found.items() if one is None]}


def keep(directory: Path, asked: dict[str, Any], now: float) -> dict[str, Any]:
    """Says for one's own records that one is still there, and what is new. `lost`: those that somebody else has taken."""
    lost = []
    for engine, fields in asked["engines"].items():
        path = path_of(directory, engine)
        record = read(path)
        if record is None or record.get("holder") != asked["holder"]:
            lost.append(engine)
        elif fields is None:
            path.unlink()
        else:
            write(path, {**record, "beat": now, **fields})
    return {"lost": lost}


def answer(asked: dict[str, Any]) -> None:
    directory, now = Path(asked["directory"]), time.time()
    if asked["action"] == "read":
        names = [path.stem for path in sorted(directory.glob("*.json"))]
        records = {name: read(path_of(directory, name)) for name in names}
        print(json.dumps({"now": now, "records": {name: one for name, one in records.items() if one is not None}}))
        return
    act = {"hold": hold, "keep": keep}[asked["action"]]
    with alone(directory):
        print(json.dumps({"now": now, **act(directory, asked, now)}))
