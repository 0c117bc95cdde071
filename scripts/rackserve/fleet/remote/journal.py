"""Runs on a node: lines of some units' journals that hold a text, or are of a time. Standard library only."""

import json
import subprocess
import sys
from typing import Any

# No line of a timeline is longer than a screen; engines may write long ones.
LONGEST = 1000


def text_of(message: Any) -> str:
    """journald gives what is not UTF-8 as a list of bytes, and a message that is too long as null."""
    if isinstance(message, list):
        return bytes(byte for byte in message if isinstance(byte, int)).decode(errors="replace")
    return message if isinstance(message, str) else ""


def answer(asked: dict[str, Any]) -> None:
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", f"--lines={asked['most']}"]
    command += ["--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT", f"--since=@{asked['since']:.0f}"]
    if asked["until"] is not None:
        command.append(f"--until=@{asked['until']:.0f}")
    command += [f"--unit={unit}" for unit in asked["units"]]
    if asked["pattern"]:
        command += [f"--grep={asked['pattern']}", "--case-sensitive=true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=asked["seconds"])
    except subprocess.TimeoutExpired:
        sys.exit(f"journalctl: nothing within {asked['seconds']:g} s; ask for a shorter time")
    except OSError as error:
        sys.exit(f"journalctl: {error.strerror}")
    # 1 with nothing to say is how it tells that nothing matched.
    if done.returncode not in (0, 1) or (done.returncode and done.stderr.strip()):
        sys.exit(f"journalctl: {done.stderr.strip() or done.returncode}")
    lines: list[tuple[float, str, str]] = []
    for line in done.stdout.splitlines():
        try:
            entry = json.loads(line)
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError):
            continue
        unit = str(entry.get("_SYSTEMD_UNIT") or entry.get("UNIT") or "")
        lines.append((at, unit, text_of(entry.get("MESSAGE"))[:LONGEST]))
    # With a pattern the newest come first.
    lines.sort()
    print(json.dumps([{"at": at, "unit": unit, "text": text} for at, unit, text in lines]))
