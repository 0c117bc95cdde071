"""Runs on a balancer: says which configuration lies on disk, and puts changed maps there as a new candidate, checked by
HAProxy and swapped in as the module rackserve_candidate does it, but without a reload. Standard library only."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CANDIDATE = re.compile(r"\d{8}T\d{6}-[0-9a-f]{12}(?:-\d+)?")


def digests(live: Path) -> dict[str, str]:
    files = sorted(path for path in live.rglob("*") if path.is_file())
    return {str(path.relative_to(live)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write(path: Path, text: str) -> None:
    """As the file that it replaces: same mode and owner; whole or not at all."""
    status = path.stat()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), status.st_mode & 0o7777)
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def copy_of(live: Path, to: Path) -> None:
    """With owners, which copytree forgets."""
    shutil.copytree(live, to, symlinks=True, dirs_exist_ok=True)
    for path in [live, *live.rglob("*")]:
        status = path.lstat()
        os.chown(to / path.relative_to(live), status.st_uid, status.st_gid, follow_symlinks=False)


def put(root: Path, maps: dict[str, str], digest: str, check: list[str], keep: int) -> str:
    everything = root / "candidates"
    live = (root / "current").resolve(strict=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=everything))
    try:
        copy_of(live, folder)
        folder.chmod(0o755)
        for name, text in maps.items():
            write(folder / name, text)
        # Lua files are named relative to this variable, so that a candidate is checked with its own ones.
        surroundings = {**os.environ, "RACKSERVE_DIRECTORY": str(folder)}
        command = [*check, str(folder / "haproxy.cfg")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
        if done.returncode != 0:
            alerts = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("[ALERT]")]
            sys.exit(f"HAProxy refuses the new maps: {(alerts or ['no reason given'])[0]}")
        base = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{digest}"
        name, number = base, 1
        while (everything / name).exists():
            number += 1
            name = f"{base}-{number}"
        folder.rename(everything / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    beside = root / ".current.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(f"candidates/{name}")
    beside.replace(root / "current")
    old = sorted(path.name for path in everything.iterdir() if CANDIDATE.fullmatch(path.name) and path.name != name)
    for gone in old[: max(len(old) - keep, 0)]:
        shutil.rmtree(everything / gone)
    return name


def answer(asked: dict[str, Any]) -> None:
    root = Path(asked["directory"])
    if not (root / "current" / "haproxy.cfg").is_file():
        sys.exit(f"{root}/current/haproxy.cfg is not there: site.yml has not run on this balancer")
    if asked.get("maps"):
        put(root, asked["maps"], asked["digest"], asked["check"], asked["keep"])
    live = (root / "current").resolve()
    print(json.dumps({"candidate": live.name, "files": digests(live)}))
