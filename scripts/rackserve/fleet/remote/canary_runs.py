"""Runs on a balancer: the record of a pool's canary run, and the heartbeat of its controller in it. Time is that since the node
was started, and which start that was, so that a clock that jumps or a reboot does not matter. Standard library only."""

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
MAP = "maps/shares.map"


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """The lock that whoever gives or takes a share holds, too."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(path: Path) -> dict[str, Any] | None:
    """None: there is none. A broken one ends the program: it may stand for a run on its way."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        sys.exit(f"{path} is broken ({error}). Take the share back (scripts/rollback), then remove it")
    if not isinstance(found, dict):
        sys.exit(f"{path} is broken: no JSON object. Take the share back (scripts/rollback), then remove it")
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump(record, file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def now() -> dict[str, Any]:
    """Seconds since the node was started, sleep included, and the name of that start."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "beat": uptime}


def silent_seconds(record: dict[str, Any], moment: dict[str, Any]) -> float:
    """Since the last beat. After a reboot: since then, which is the least that it can be."""
    same = record["boot"] == moment["boot"]
    return float(moment["beat"]) - (float(record["beat"]) if same else 0.0)


def begin(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """`taken`: the run of somebody else that is still alive; nothing is done then."""
    record, moment = read(path), now()
    if record is not None and record["run"] != asked["run"]:
        stopped, silent = record.get("stopped") or {}, silent_seconds(record, moment)
        if not stopped.get("done") and silent <= record["watchdog_seconds"]:
            return {"taken": record, "silent_seconds": silent}
    elif record is not None and (record.get("stopped") or {}).get("final"):
        return {"taken": record, "silent_seconds": silent_seconds(record, moment)}
    same = record is not None and record["run"] == asked["run"]
    since = record["since"] if record is not None and same else time.time()
    fields = {key: asked[key] for key in ("pool", "run", "by", "watchdog_seconds", "release")}
    write(path, {**fields, "since": since, "fall_back": True, "stopped": None, **moment})
    return {"taken": None, "silent_seconds": 0.0}


def beat(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """`taken`: what stands there instead of this run. `stopped`: by whom; the run has no share any more, and gets none."""
    record = read(path)
    if record is None or record["run"] != asked["run"]:
        return {"taken": record or {}, "stopped": None}
    if not record["stopped"]:
        write(path, {**record, **asked["news"], "told": False, **now()})
    return {"taken": None, "stopped": record["stopped"]}


def end(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The record goes when the share has gone."""
    record = read(path)
    if record is None:
        return {"taken": None}
    if record["run"] != asked["run"]:
        return {"taken": record}
    shares = Path(asked["directory"]) / "current" / MAP
    if any(line.split()[:1] == [asked["pool"]] for line in shares.read_text().splitlines()):
        sys.exit(f"pool {asked['pool']} still has a share in {shares}: take it back first, or nobody would watch it")
    path.unlink()
    return {"taken": None}


def answer(asked: dict[str, Any]) -> None:
    if NAME.fullmatch(asked["pool"]) is None:
        sys.exit(f"{asked['pool']!r} is no name of a pool")
    directory = Path(asked["records"])
    try:
        with alone(directory):
            act = {"begin": begin, "beat": beat, "end": end}[asked["action"]]
            print(json.dumps(act(directory / f"{asked['pool']}.json", asked)))
    except OSError as error:
        sys.exit(str(error))
