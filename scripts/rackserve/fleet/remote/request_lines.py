"""Runs on a balancer: looks through its files of request lines, newest first, for lines that hold a text. Memory is
bounded: files are read in blocks from their ends, and what is found is packed as it comes. Standard library only."""

import base64
import json
import re
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
# HAProxy cuts its lines at 8 KiB; a longer one is none of them, and is not kept while its beginning is looked for.
LONGEST = 1 << 16
NAME = re.compile(r"(?P<kind>[a-z0-9][a-z0-9-]{0,39})\.(?P<number>\d{10})\.jsonl")
TIME = re.compile(rb'"time":\s*(\d+(?:\.\d+)?)')


def backwards(path: Path) -> Iterator[bytes]:
    """Lines of the file, the last one first. Whoever writes may be in the middle of one: then it is not whole yet."""
    with path.open("rb") as file:
        left = file.seek(0, 2)
        rest = b""
        while left:
            size = min(BLOCK, left)
            left -= size
            file.seek(left)
            first, *others = (file.read(size) + rest).split(b"\n")
            yield from reversed(others)
            # One byte too many is enough to see that it is too long.
            rest = first[-LONGEST - 1 :]
        yield rest


def files(directory: Path, since: float) -> list[Path]:
    """Written to since then, the newest first. Numbers only rise, whatever the clock did."""
    found = []
    for path in directory.iterdir():
        match = NAME.fullmatch(path.name)
        try:
            if match and path.stat().st_mtime >= since:
                found.append((int(match["number"]), path))
        except FileNotFoundError:
            # Its time was up between the two calls.
            continue
    return [path for _, path in sorted(found, reverse=True)]


def recent(line: bytes, since: float) -> bool:
    """By the moment it came in. A line without one is somebody else's to judge."""
    match = TIME.search(line, 0, 64)
    return match is None or float(match[1]) >= since


def answer(asked: dict[str, Any]) -> None:
    directory = Path(asked["directory"])
    if not directory.is_dir():
        sys.exit(f"{directory} is not there: the log service of this balancer has not run yet (site.yml installs it)")
    text = asked["text"].encode()
    ends = time.monotonic() + asked["seconds"]
    packer, packed, count, cut = zlib.compressobj(1), [], 0, ""
    for path in files(directory, asked["since"]):
        try:
            for line in backwards(path):
                if len(line) > LONGEST or text not in line or not recent(line, asked["since"]):
                    continue
                if count == asked["most"]:
                    cut = f"only the newest {count} lines"
                    break
                packed.append(packer.compress(line + b"\n"))
                count += 1
        except FileNotFoundError:
            continue
        if not cut and time.monotonic() > ends:
            cut = f"only what could be read within {asked['seconds']:g} s, the newest files"
        if cut:
            break
    packed.append(packer.flush())
    print(json.dumps({"lines": base64.b64encode(b"".join(packed)).decode(), "count": count, "cut": cut}))
