"""Request lines in a balancer's files, and lines of a node's journal, asked for over ssh. What they mean is known elsewhere."""

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rackserve.fleet.errors import NonsenseError
from rackserve.fleet.ssh import Host

DIRECTORY = "/var/log/rackserve/requests"
# Unpacked; far more than `most` lines of HAProxy's length would be.
_LARGEST = 1 << 30


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class _Lines(_Reply):
    lines: str
    count: int
    cut: str


class JournalLine(_Reply):
    """`at`: seconds since 1970. The text is cut at 1000 characters."""

    at: float
    unit: str
    text: str


_JOURNAL: TypeAdapter[tuple[JournalLine, ...]] = TypeAdapter(tuple[JournalLine, ...])


@dataclass(frozen=True)
class Lines:
    """The newest first. `cut`: why these are not all; empty: they are."""

    lines: tuple[bytes, ...]
    cut: str


def holding(
    host: Host, text: str, since: float, most: int, deadline_seconds: float, directory: str = DIRECTORY
) -> Lines:
    """Lines that hold the text and came in since then (seconds since 1970). Raises a FleetError."""
    asked: dict[str, Any] = {"directory": directory, "text": text, "since": since, "most": most}
    said = host.call("request_lines", asked | {"seconds": deadline_seconds * 0.7}, deadline_seconds)
    try:
        found = _Lines.model_validate(said)
        unpacker = zlib.decompressobj()
        whole = unpacker.decompress(base64.b64decode(found.lines, validate=True), _LARGEST)
    except (ValidationError, binascii.Error, zlib.error) as error:
        raise NonsenseError(host.name, "request_lines", str(error)) from error
    return Lines(tuple(whole.split(b"\n")[:-1]), found.cut)


def journal(
    host: Host,
    units: Sequence[str],
    since: float,
    until: float | None,
    pattern: str,
    most: int,
    deadline_seconds: float,
) -> tuple[JournalLine, ...]:
    """The last `most` lines, oldest first, that match the pattern (PCRE; empty: all). Raises a FleetError."""
    asked: Mapping[str, Any] = {
        "units": list(units), "since": since, "until": until, "pattern": pattern, "most": most,
        "seconds": deadline_seconds * 0.8,
    }  # fmt: skip
    said = host.call("journal", asked, deadline_seconds)
    try:
        return _JOURNAL.validate_python(said, strict=False)
    except ValidationError as error:
        raise NonsenseError(host.name, "journal", str(error)) from error
