"""Runs on a balancer: changes the map of announced maintenance where it lies, whole or not at all, without a new candidate: it
is no part of what the inventory says. Standard library only."""

import fcntl
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

LINE = re.compile(r"[a-z0-9][a-z0-9-]* \d{1,12}")


def answer(asked: dict[str, Any]) -> None:
    path = Path(asked["directory"]) / "current" / asked["map"]
    if not path.is_file():
        sys.exit(f"{path} is not there: run site.yml, so that the balancer knows of maintenance")
    # The file that readers see is replaced, so the lock is on its directory.
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    lines = [line for line in path.read_text().splitlines() if LINE.fullmatch(line)]
    entries = {key: value for key, _, value in (line.partition(" ") for line in lines)}
    # What has ended by itself is of no use to anybody.
    entries = {key: value for key, value in entries.items() if int(value) > asked["now"] and key not in asked["drop"]}
    entries |= asked["put"]
    text = "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))
    status = path.stat()
    handle, name = tempfile.mkstemp(dir=path.parent.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), status.st_mode & 0o7777)
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)
    os.fsync(folder)
    print(json.dumps(entries))
