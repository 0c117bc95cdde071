"""Runs on a balancer: sends commands to the HAProxy process that takes requests, and to those from before a reload that
still carry streams: only the master's socket reaches them. Standard library only."""

import json
import socket
import sys
from typing import Any

# The master's words for a process that has ended since it was listed.
GONE = "Can't find the target PID"


def ask(path: str, command: str, seconds: float) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        # The master would wait for more.
        connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")


def old_workers(listed: str) -> list[str]:
    """`show proc`: a heading for each kind, below it lines that begin with a process's number."""
    found, kind = [], ""
    for line in listed.splitlines():
        if line.startswith("#"):
            kind = line.strip("# ")
        elif kind == "old workers" and line.strip():
            found.append(line.split()[0])
    return found


def answer(asked: dict[str, Any]) -> None:
    seconds = asked["seconds"]
    try:
        current = [ask(asked["socket"], command, seconds) for command in asked["commands"]]
    except OSError as error:
        sys.exit(f"{asked['socket']}: {error}")
    old, unknown = {}, ""
    try:
        for process in old_workers(ask(asked["master"], "show proc", seconds)):
            replies = [ask(asked["master"], f"@!{process} {command}", seconds) for command in asked["old_commands"]]
            if not any(reply.startswith(GONE) for reply in replies):
                old[process] = replies
    except OSError as error:
        unknown = f"{asked['master']}: {error}"
    print(json.dumps({"current": current, "old": old, "unknown": unknown}))
