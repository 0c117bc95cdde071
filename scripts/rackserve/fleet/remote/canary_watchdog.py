"""Stays on a balancer and is started every few seconds: takes the share of a canary run back when its controller has been silent
for longer than the run said, whatever has become of the controller. Says so in the journal. Standard library only.

Exit code 1: a share could not be taken back; it is tried again at the next start.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rackserve.fleet.remote import canary_runs, shares


def due(record: dict[str, Any], moment: dict[str, Any]) -> str:
    """Why the share has to go; empty: it may stay. `moment`: as canary_runs.now() says it."""
    stopped = record.get("stopped")
    if stopped:
        return (
            "" if stopped.get("done") else f"run {record.get('run')} was stopped, and its share has not gone everywhere"
        )
    try:
        silent, most = canary_runs.silent_seconds(record, moment), float(record["watchdog_seconds"])
    except (KeyError, TypeError, ValueError):
        return f"the record of run {record.get('run')} does not say when its controller was last heard"
    if silent < 0:
        return f"the record of run {record.get('run')} has a heartbeat from the future"
    if silent <= most:
        return ""
    return f"the controller of run {record.get('run')} has been silent for {silent:.0f} s, and {most:g} s are allowed"


def reason(path: Path) -> str:
    try:
        record = shares.read_record(path)
    except OSError as error:
        return str(error)
    return due(record, canary_runs.now()) if record is not None else ""


def looked_at(path: Path, asked: dict[str, Any]) -> str:
    """Decided while nobody else can write; once the run is stopped a late heartbeat changes nothing. Where that cannot be written
    down the share goes all the same. A share that stable could not carry stays, which is told once."""
    why = ""
    try:
        with shares.alone(path.parent):
            why = reason(path)
            if why and left(path, why):
                return ""
            if why:
                shares.stop_run({**asked, "why": why})
    except OSError:
        why = why or reason(path)
    return why


def left(path: Path, why: str) -> bool:
    """The controller has said that stable could not carry what the canary has."""
    record, error = shares.tried(lambda: shares.read_record(path))
    if error or record is None or record.get("stopped") or record.get("fall_back", True):
        return False
    if not record.get("told"):
        asked = {"pool": path.stem, "by": "the watchdog", "where": "", "why": why}
        shares.audit(asked, "stays as it is, because stable could not carry it")
        shares.write(path, json.dumps({**record, "told": True}, sort_keys=True), path.parent)
    return True


def watch(path: Path, places: dict[str, Any]) -> bool:
    """Whether all is well with this pool: nothing was to be done, or it was done."""
    asked = {**places, "pool": path.stem, "by": "the watchdog", "where": "", "why": "", "hard": False}
    asked |= {"stop": True, "final": False, "force": False}
    why = looked_at(path, asked)
    if not why:
        return True
    told = shares.back({**asked, "why": why})
    failed = [told[key] for key in ("refused", "live_error", "file_error", "run_error") if told[key]]
    if failed:
        sys.stderr.write(f"pool {path.stem}: {why}; not all of it could be done: {'; '.join(failed)}\n")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", default="/var/lib/rackserve/canary", help="directory of the runs' records")
    parser.add_argument("--directory", default="/etc/haproxy", help="HAProxy's configuration")
    parser.add_argument("--socket", default="/run/haproxy/admin.sock", help="HAProxy's admin socket")
    parser.add_argument("--master", default="/run/haproxy-master.sock", help="the socket of HAProxy's master")
    arguments = parser.parse_args()
    names = ("records", "directory", "socket", "master")
    places = {**{name: getattr(arguments, name) for name in names}, "seconds": 5.0}
    records = sorted(path for path in Path(arguments.records).glob("*.json") if shares.NAME.fullmatch(path.stem))
    well = [watch(path, places) for path in records]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
