"""What is wrong with a definition, as a value: where, which key, what stands there, what is allowed, what to do."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Path = tuple[str | int, ...]
"""A key path: ("service_pools", "small", "slots"); host variables start with ("host", <name>)."""

# Keys whose values are secrets, or stand where people paste secrets by mistake. Their values are never shown.
_SECRET_KEYS = frozenset(
    {
        *(
            "service_engine_key",
            "service_probe_key",
            "engine_key",
            "probe_key",
            "sha256",
            "token_variable",
            "key_variable",
        ),
        *("url", "dead_man_url", "api-key", "VLLM_API_KEY", "HF_TOKEN"),
    }
)
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Place:
    """A file and a line of it (1 is the first; None when only the file is known)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One finding. `path` locates it, the other fields are whole phrases for people."""

    path: Path
    problem: str
    allowed: str = ""
    remedy: str = ""
    value: str | None = None
    severity: Literal["error", "warning"] = "error"
    place: Place | None = None
    # The key that a misspelt one most likely should be.
    meant: str | None = None

    @property
    def key(self) -> str:
        return key_text(self.path)

    def lines(self) -> list[str]:
        """The first line says where and what; the indented ones what stands there, what is allowed and what to do."""
        where = f"{self.place}: " if self.place else ""
        head = f"{where}{self.key}: {self.problem}" if self.path else f"{where}{self.problem}"
        rest = [("value", self.value), ("allowed", self.allowed), ("do", self.remedy)]
        return [head, *[line for name, text in rest if text for line in _wrapped(f"{name}: {text}")]]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def as_dict(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "file": self.place.file if self.place else None,
            "line": self.place.line if self.place else None,
            "key": self.key,
            "value": self.value,
            "problem": self.problem,
            "allowed": self.allowed,
            "remedy": self.remedy,
        }


def _wrapped(text: str) -> list[str]:
    """Long lists of allowed names over several lines; nothing else is that long."""
    return textwrap.wrap(
        text, 140, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def key_text(path: Path) -> str:
    """service_pools.small.engines[1].port; host variables read "host gpu1: node_gpus"."""
    host = ""
    if len(path) >= 2 and path[0] == "host":
        host, path = f"host {path[1]}", path[2:]
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return ": ".join(part for part in (host, text) if part)


def is_secret(path: Path) -> bool:
    """Whether the value at this path must not be shown."""
    return any(isinstance(part, str) and (part in _SECRET_KEYS or part.startswith("vault_")) for part in path)


def shown(path: Path, value: object) -> str | None:
    """The value as a message may show it: shortened, and hidden where a secret stands or belongs."""
    if is_secret(path):
        return "(hidden)"
    if isinstance(value, Mapping):
        value = f"a mapping with {', '.join(map(str, value)) or 'no keys'}"
    elif isinstance(value, tuple | list):
        if any(isinstance(item, Mapping | tuple | list) for item in value):
            value = f"a list of {len(value)}"
        else:
            value = f"[{', '.join(map(str, value))}]"
    elif isinstance(value, str):
        value = f'"{value}"'
    elif isinstance(value, bool):
        value = str(value).lower()
    elif value is None:
        value = "null"
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def place_all(problems: Iterable[Problem], places: Mapping[Path, Place], default: Place) -> tuple[Problem, ...]:
    """Gives each problem the place of its key, or of the nearest key above it that has one. Drops repetitions."""
    placed = (p if p.place else replace(p, place=nearest_place(p.path, places) or default) for p in problems)
    return tuple(dict.fromkeys(placed))


def count(number: int, noun: str) -> str:
    """1 slot, 2 slots."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nearest_place(path: Path, places: Mapping[Path, Place]) -> Place | None:
    for length in range(len(path), 0, -1):
        if (place := places.get(path[:length])) is not None:
            return place
    return None
