"""What has to survive a restart of the probe: a small file in a directory that the next boot begins empty.

So times of the clock that never goes back stay comparable. A file that cannot be read is said and begun anew: the worst of it
is a second warm-up, and a hung engine that is found again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rackserve.health.looks import Memory, State, WarmUp

_NAME = "state.json"
_Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    started: _Finite | None = None
    token_seconds: _Finite | None = None
    step_seconds: _Finite | None = None
    hung_since: _Finite | None = None
    restarts: list[_Finite] = []


_FILE = TypeAdapter(dict[str, _Kept])


class Unreadable(Exception):
    """There is a file and nothing can be made of it; says why."""


def read(directory: Path) -> dict[str, Memory]:
    """By engine; empty where there is no file. Raises Unreadable."""
    path = directory / _NAME
    try:
        found = _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise Unreadable(f"{path}: {error}") from error
    return {name: _memory(kept) for name, kept in found.items()}


def _memory(kept: _Kept) -> Memory:
    warm = None if kept.token_seconds is None else WarmUp(kept.token_seconds, kept.step_seconds)
    hung = kept.hung_since is not None
    return Memory(
        state=State.HUNG if hung else State.NEW,
        since=kept.hung_since or 0.0,
        started=kept.started,
        warm=warm,
        restarts=tuple(kept.restarts),
    )


def text(memories: Mapping[str, Memory]) -> str:
    """The file's text."""
    return json.dumps({name: _plain(memory) for name, memory in sorted(memories.items())})


def _plain(memory: Memory) -> dict[str, Any]:
    return {
        "started": memory.started,
        "token_seconds": memory.warm.token_seconds if memory.warm else None,
        "step_seconds": memory.warm.step_seconds if memory.warm else None,
        "hung_since": memory.since if memory.state is State.HUNG else None,
        "restarts": list(memory.restarts),
    }


def write(directory: Path, content: str) -> None:
    """By rename, so that nobody reads half of it. Raises OSError."""
    new = directory / f".{_NAME}"
    new.write_text(content)
    os.replace(new, directory / _NAME)
