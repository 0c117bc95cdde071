"""What HAProxy's runtime API answers, read into our words. No transport here. Forms of HAProxy 2.8 to 3.x."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

# `get map` answers: type=str, case=sensitive, found=yes, idx=tree, key="k", value="v", type="str"
_FOUND = re.compile(r'found=(?P<found>yes|no)(?:.*?key="(?P<key>.*?)", value="(?P<value>.*?)"(?:, type=.*)?)?$')


class UnreadableReply(Exception):
    """The text has none of the known forms."""


@dataclass(frozen=True)
class ServerState:
    """One server of one backend: what its operators want and what its checks say."""

    backend: str
    server: str
    status: str
    weight: int
    current: int
    queued: int
    limit: int | None


def map_entries(reply: str) -> dict[str, str]:
    """`show map`: one line per entry, `0xADDRESS KEY VALUE`. A key that stands twice counts as HAProxy does: the first."""
    entries: dict[str, str] = {}
    for line in reply.splitlines():
        if not line.strip():
            continue
        parts = line.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("0x"):
            raise UnreadableReply(line)
        entries.setdefault(parts[1], parts[2] if len(parts) == 3 else "")
    return entries


def map_value(reply: str) -> str | None:
    """`get map`: the value, or None when the key is not in the map."""
    match = _FOUND.search(reply.strip())
    if match is None or (match["found"] == "yes" and match["value"] is None):
        raise UnreadableReply(reply)
    value: str | None = match["value"]
    return value if match["found"] == "yes" else None


def statistics(reply: str) -> list[dict[str, str]]:
    """`show stat`: rows by the names in its header, whichever columns this version has."""
    if not reply.startswith("# "):
        raise UnreadableReply(reply)
    return [row for row in csv.DictReader(io.StringIO(reply.removeprefix("# "))) if row.get("pxname")]


def server_states(reply: str) -> list[ServerState]:
    rows = [row for row in statistics(reply) if row["svname"] not in ("FRONTEND", "BACKEND")]
    return [_server(row) for row in rows]


def _server(row: Mapping[str, str]) -> ServerState:
    def number(name: str) -> int:
        return int(row.get(name) or 0)

    limit = int(row["slim"]) if row.get("slim") else None
    return ServerState(
        row["pxname"], row["svname"], row["status"], number("weight"), number("scur"), number("qcur"), limit
    )


@dataclass(frozen=True)
class Will:
    """What operators want of a server, whatever its checks say; `running`: what its checks say."""

    drained: bool
    maintained: bool
    running: bool

    @property
    def out(self) -> bool:
        return self.drained or self.maintained


# srv_admin_state has a bit each for what was asked of this server and for what it inherits from the one it follows.
_FORCED_MAINTENANCE, _FORCED_DRAIN = 0x01, 0x08
_STOPPED = "0"


def wills(reply: str) -> dict[str, Will]:
    """`show servers state BACKEND`: a version, a header, then a line for each server."""
    lines = [line for line in reply.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].isdigit() or not lines[1].startswith("# "):
        raise UnreadableReply(reply)
    names = lines[1].removeprefix("# ").split()
    found = {}
    for line in lines[2:]:
        row = dict(zip(names, line.split(), strict=False))
        try:
            bits = int(row["srv_admin_state"])
            found[row["srv_name"]] = Will(
                bool(bits & _FORCED_DRAIN), bool(bits & _FORCED_MAINTENANCE), row["srv_op_state"] != _STOPPED
            )
        except (KeyError, ValueError):
            raise UnreadableReply(line) from None
    return found


def information(reply: str) -> dict[str, str]:
    """`show info`: `Name: value` lines."""
    lines = [line.split(": ", 1) for line in reply.splitlines() if ":" in line]
    if not lines:
        raise UnreadableReply(reply)
    return {line[0].rstrip(":"): line[1] if len(line) == 2 else "" for line in lines}
