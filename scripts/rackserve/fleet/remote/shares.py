"""Runs on a balancer: the split of one pool between its tracks, in the map on disk and in the running HAProxy. Who takes a share
back does the running process first and everything else after; who gives one does the file first. Standard library only."""

import fcntl
import json
import os
import re
import socket
import sys
import syslog
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAP = "maps/shares.map"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,100}")
VALUE = re.compile(r"\d{1,4}/\d{1,4}")
LINE = re.compile(r"[a-z0-9][a-z0-9-]* \d{1,4}/\d{1,4}")
FOUND = re.compile(r'found=(?P<found>yes|no)(?:.*?value="(?P<value>.*?)"(?:, type=.*)?)?\s*$')
STAT = "show stat -1 6 -1"
IDENT = "rackserve-canary"
# srv_admin_state: in maintenance or drained, by an operator, by the server that it follows, or otherwise. 0x04 only says how the
# configuration began.
OUT = 0x01 | 0x02 | 0x08 | 0x10 | 0x20 | 0x40
# Sessions end within a moment of being told so.
CUT_SECONDS = 2.0


def ask(path: str, command: str, seconds: float) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")


def tell(asked: dict[str, Any], command: str) -> None:
    """Setters are silent when they have done it."""
    reply = ask(asked["socket"], command, asked["seconds"]).strip()
    if reply:
        raise OSError(f"{command}: {reply.splitlines()[0]}")


def live(asked: dict[str, Any]) -> str | None:
    """What the running process goes by; None: no share."""
    reply = ask(asked["socket"], f"get map {MAP} {asked['pool']}", asked["seconds"]).strip()
    match = FOUND.search(reply)
    if match is None:
        raise OSError(f"get map {MAP}: {reply or 'no answer'}")
    return match["value"] if match["found"] == "yes" else None


def drop_live(asked: dict[str, Any]) -> str | None:
    """Returns what it was. Every entry of the pool goes, also those that somebody added twice."""
    before = live(asked)
    if before is not None:
        tell(asked, f"del map {MAP} {asked['pool']}")
    return before


def put_live(asked: dict[str, Any]) -> str | None:
    before = live(asked)
    tell(asked, f"{'add' if before is None else 'set'} map {MAP} {asked['pool']} {asked['value']}")
    return before


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """The lock on the records of canary runs."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def record_path(asked: dict[str, Any]) -> Path:
    if NAME.fullmatch(asked["pool"]) is None:
        sys.exit(f"{asked['pool']!r} is no name of a pool")
    return Path(asked["records"]) / f"{asked['pool']}.json"


def read_record(path: Path) -> dict[str, Any] | None:
    """None: there is none. A broken one is an error: it may stand for a run on its way."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OSError(f"{path} is broken ({error})") from None
    if not isinstance(found, dict):
        raise OSError(f"{path} is broken (no JSON object)")
    return found


def write(path: Path, text: str, folder: Path) -> None:
    """Whole or not at all, and there after a power cut. `folder`: where it is made, on the same disk."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            status = path.stat() if path.exists() else None
            os.fchmod(file.fileno(), status.st_mode & 0o7777 if status else 0o644)
            if status:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def map_path(asked: dict[str, Any]) -> Path:
    path = Path(asked["directory"]) / "current" / MAP
    if not path.is_file():
        raise OSError(f"{path} is not there: run site.yml, so that the balancer knows of tracks")
    return path


def lines_of(path: Path) -> tuple[dict[str, str], list[str]]:
    """Entries, the first of each name, as HAProxy counts them; and lines that are none."""
    entries: dict[str, str] = {}
    broken = []
    for line in path.read_text().splitlines():
        name, _, value = line.strip().partition(" ")
        if LINE.fullmatch(line) is None:
            broken.append(line)
        if name and value and not name.startswith("#"):
            entries.setdefault(name, value.strip())
    return entries, broken


def put_file(asked: dict[str, Any], value: str | None) -> str | None:
    """Returns what it was. Nothing is written where nothing changes."""
    path = map_path(asked)
    # The file that readers see is replaced, so the lock is on its directory.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        entries, broken = lines_of(path)
        before = entries.pop(asked["pool"], None)
        if value is not None:
            entries[asked["pool"]] = value
        whole = {f"{name} {one}" for name, one in entries.items()}
        if before != value or broken:
            kept = sorted(line for line in whole if LINE.fullmatch(line))
            write(path, "".join(f"{line}\n" for line in kept), path.parent.parent)
    finally:
        os.close(folder)
    return before


def tried(do: Callable[[], Any]) -> tuple[Any, str]:
    """What it gave, and what went wrong: one part that fails must not keep the others from being done."""
    try:
        return do(), ""
    except OSError as error:
        return None, str(error)


def counts(statistics: str, backend: str) -> tuple[int, int]:
    """Requests that run there and that wait for it."""
    lines = statistics.splitlines()
    if not lines or not lines[0].startswith("# "):
        raise OSError(f"{STAT}: {statistics[:100]}")
    names = lines[0].removeprefix("# ").split(",")
    rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:] if line.startswith(f"{backend},")]
    running = sum(int(row["scur"] or 0) for row in rows if row["svname"] != "BACKEND")
    return running, sum(int(row["qcur"] or 0) for row in rows)


def servers_of(state: str) -> list[str]:
    """`show servers state BACKEND`: a version, a heading, a line for each server."""
    return [line.split()[3] for line in state.splitlines()[2:] if line.strip()]


def old_workers(asked: dict[str, Any]) -> list[str]:
    found, kind = [], ""
    for line in ask(asked["master"], "show proc", asked["seconds"]).splitlines():
        if line.startswith("#"):
            kind = line.strip("# ")
        elif kind == "old workers" and line.strip():
            found.append(line.split()[0])
    return found


def drop_old(asked: dict[str, Any]) -> int:
    """A process from before a reload goes by its own map with what was on its way then. Returns how many requests such processes
    run on the canary."""
    running = 0
    for process in old_workers(asked):
        ask(asked["master"], f"@!{process} del map {MAP} {asked['pool']}", asked["seconds"])
        reply = ask(asked["master"], f"@!{process} {STAT}", asked["seconds"])
        if reply.startswith("# "):
            running += sum(counts(reply, f"pool-{asked['pool']}-canary"))
    return running


def in_service(asked: dict[str, Any]) -> tuple[int, int]:
    """Engines of stable that get requests, and how many the pool has."""
    lines = ask(asked["socket"], f"show servers state pool-{asked['pool']}-stable", asked["seconds"]).splitlines()
    if len(lines) < 2 or not lines[1].startswith("# "):
        raise OSError(f"show servers state: {lines[:1]}")
    names = lines[1].removeprefix("# ").split()
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines[2:] if line.strip()]
    up = [row for row in rows if row["srv_op_state"] != "0" and not int(row["srv_admin_state"]) & OUT]
    return len(up), len(rows)


def cut(asked: dict[str, Any]) -> None:
    """Ends what runs on the canary, and what comes out of its queue meanwhile."""
    backend = f"pool-{asked['pool']}-canary"
    names = servers_of(ask(asked["socket"], f"show servers state {backend}", asked["seconds"]))
    ends = time.monotonic() + CUT_SECONDS
    while any(counts(ask(asked["socket"], STAT, asked["seconds"]), backend)) and time.monotonic() < ends:
        for name in names:
            tell(asked, f"shutdown sessions server {backend}/{name}")
        time.sleep(0.02)


def stop_run(asked: dict[str, Any]) -> str | None:
    """The run of this pool gets no share any more, whatever its controller does next; `final`: nor may it begin again. Returns its
    name."""
    path = record_path(asked)
    record = read_record(path)
    if record is None:
        return None
    before = record.get("stopped")
    if not before or (asked["final"] and not before.get("final")):
        fields = {"by": asked["by"], "why": asked["why"], "at": time.time(), "final": asked["final"]}
        record["stopped"] = {**fields, "done": False}
        write(path, json.dumps(record, sort_keys=True), path.parent)
    return str(record.get("run"))


def mark_done(asked: dict[str, Any]) -> None:
    path = record_path(asked)
    record = read_record(path)
    if record is not None and record.get("stopped") and not record["stopped"].get("done"):
        record["stopped"]["done"] = True
        write(path, json.dumps(record, sort_keys=True), path.parent)


def settle(asked: dict[str, Any], told: dict[str, Any]) -> None:
    """What keeps it at 0: the run, the file, and whoever gave a share before he could know."""
    with alone(Path(asked["records"])):
        if asked["stop"]:
            told["run"], told["run_error"] = tried(lambda: stop_run(asked))
        told["file_before"], told["file_error"] = tried(lambda: put_file(asked, None))
        if not told["live_error"]:
            _, told["live_error"] = tried(lambda: drop_live(asked))
        if not told["live_error"]:
            told["live_after"], told["live_error"] = tried(lambda: live(asked))
        if not (told["live_error"] or told["file_error"] or told["run_error"]):
            _, told["run_error"] = tried(lambda: mark_done(asked))


def back(asked: dict[str, Any]) -> dict[str, Any]:
    """The share to 0. Every part is tried, whatever becomes of the others."""
    told = {
        "live_before": None,
        "live_after": None,
        "live_error": "",
        "file_before": None,
        "file_error": "",
        "run": None,
    }
    told |= {"run_error": "", "running": None, "waiting": None, "old_running": None, "old_error": "", "refused": ""}
    told["stable"], _ = tried(lambda: in_service(asked))
    if told["stable"] and not told["stable"][0] and not asked["force"]:
        told["live_before"], told["live_error"] = tried(lambda: live(asked))
        told["live_after"] = told["live_before"]
        if told["live_before"] is not None:
            told["refused"] = "stable has no engine in service, so all requests would be refused: nothing was changed"
            return told
    before, told["live_error"] = tried(lambda: drop_live(asked))
    told["live_before"] = before
    _, lock_error = tried(lambda: settle(asked, told))
    if lock_error:
        told["run_error"] = lock_error
        told["file_before"], told["file_error"] = tried(lambda: put_file(asked, None))
    if asked["hard"] and not told["live_error"]:
        _, told["live_error"] = tried(lambda: cut(asked))
    told["old_running"], told["old_error"] = tried(lambda: drop_old(asked))
    left, _ = tried(lambda: counts(ask(asked["socket"], STAT, asked["seconds"]), f"pool-{asked['pool']}-canary"))
    told |= {"running": left and left[0], "waiting": left and left[1]}
    if before is not None or told["file_before"] is not None or asked["hard"]:
        in_file = f"{told['file_before'] or 0} -> {'unknown' if told['file_error'] else 0}"
        now = "unknown" if told["live_error"] else told["live_after"] or 0
        audit(asked, f"{before or 0} -> {now}, in the file {in_file}{', running ones ended' if asked['hard'] else ''}")
    return told


def audit(asked: dict[str, Any], change: str) -> None:
    """Who, from where, what, before, after; in thousandths for canary/baseline. Into the journal."""
    syslog.openlog(IDENT)
    who = f"{asked['by']} from {asked['where']}" if asked["where"] else asked["by"]
    syslog.syslog(syslog.LOG_NOTICE, f"pool {asked['pool']}: share {change}; by {who}: {asked['why']}")


def permitted(asked: dict[str, Any]) -> None:
    """A share is for a run that a watchdog can see, and that nobody has stopped."""
    if VALUE.fullmatch(asked["value"]) is None:
        sys.exit(f"{asked['value']!r} is no share: canary/baseline in thousandths, such as 50/50")
    path = record_path(asked)
    record = read_record(path)
    if record is None or record.get("run") != asked["run"]:
        held = f"the run on it is {record.get('run')}" if record else f"there is no record of a run ({path})"
        sys.exit(f"run {asked['run']} may give pool {asked['pool']} no share: {held}")
    if stopped := record.get("stopped"):
        sys.exit(f"run {asked['run']} may give no share any more: {stopped['by']} has stopped it ({stopped['why']})")


def give(asked: dict[str, Any]) -> dict[str, Any]:
    """One of the two steps of giving a share: `file` or `live`. Read back."""
    with alone(Path(asked["records"])):
        permitted(asked)
        if asked["action"] == "file":
            before = put_file(asked, asked["value"])
            after = lines_of(map_path(asked))[0].get(asked["pool"])
        else:
            before = put_live(asked)
            after = live(asked)
    if asked["action"] == "live":
        audit(asked, f"{before or 0} -> {after or 0}")
    return {"before": before, "after": after}


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """Everything about the pool's split, raw. One part that cannot be said does not hide the others."""
    backends = [f"pool-{asked['pool']}-{track}" for track in asked["tracks"]]
    share, live_error = tried(lambda: live(asked))
    found, file_error = tried(lambda: lines_of(map_path(asked)))
    states = [ask(asked["socket"], f"show servers state {one}", asked["seconds"]) for one in backends]
    statistics = ask(asked["socket"], STAT, asked["seconds"])
    old: dict[str, str] = {}

    def all_old() -> None:
        for process in old_workers(asked):
            reply = ask(asked["master"], f"@!{process} {STAT}", asked["seconds"])
            # Else it has ended since it was listed.
            if reply.startswith("# "):
                old[process] = reply

    _, old_error = tried(all_old)
    record, record_error = tried(lambda: read_record(record_path(asked)))
    return {
        "live": share,
        "live_error": live_error,
        "states": states,
        "statistics": statistics,
        "file": found and found[0].get(asked["pool"]),
        "broken": found[1] if found else [],
        "file_error": file_error,
        "old": old,
        "old_error": old_error,
        "record": record,
        "record_error": record_error,
    }


def answer(asked: dict[str, Any]) -> None:
    record_path(asked)
    act = {"look": look, "file": give, "live": give, "back": back}[asked["action"]]
    try:
        print(json.dumps(act(asked)))
    except OSError as error:
        sys.exit(f"{asked['socket']}: {error}" if not error.filename else str(error))
