"""Pydantic's errors in our words: what is wrong, what is allowed, what to do."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rackserve.definition.problem import Path, Problem, is_secret, shown

_TYPES = {
    "int": "a whole number without quotes",
    "float": "a number without quotes",
    "string": "text",
    "bool": "true or false, without quotes",
    "tuple": "a list",
    "mapping": "a mapping (key: value)",
    "dict": "a mapping (key: value)",
    "model": "a mapping (key: value)",
}
_BOUNDS = {"greater_than": ("gt", "over"), "greater_than_equal": ("ge", "from"), "less_than": ("lt", "below"), "less_than_equal": ("le", "up to")}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a typing mistake most likely meant."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def unknown(path: Path, kind: str, name: str, known: Iterable[str], remedy: str = "") -> Problem:
    """A name that refers to nothing."""
    names = sorted(known)
    near = nearest(name, names)
    allowed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none is defined"
    return Problem(
        path=path,
        problem=f"there is no {kind} {name!r}" + (f"; did you mean {near!r}?" if near else ""),
        value=f'"{name}"',
        allowed=allowed,
        remedy=remedy or f"use one that exists, or define the {kind}",
    )


def key_path(error: ErrorDetails, prefix: Path, value: Any) -> Path:
    """The error's location as a key path: without the tags that pydantic adds for kinds and keys."""
    path: list[str | int] = []
    for part in error["loc"]:
        if part == "[key]":
            continue
        if isinstance(value, Mapping) and part not in value and value.get("kind") == part:
            continue
        path.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return (*prefix, *path)


def fields_at(model: type[BaseModel], path: Path, value: Any) -> tuple[str, ...]:
    """The keys that are known at a path below `model`."""
    kinds: list[Any] = [model]
    for part in path:
        found: list[Any] = []
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                info = kind.model_fields.get(str(part))
                found += _parts(info.annotation) if info else []
            else:
                found += [inner for argument in typing.get_args(kind)[-1:] for inner in _parts(argument)] if isinstance(part, str) else [
                    inner for argument in typing.get_args(kind)[:1] for inner in _parts(argument)
                ]
        kinds = found
        value = value[part] if isinstance(value, Mapping) and part in value or isinstance(value, tuple) and isinstance(part, int) else None
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if isinstance(value, Mapping) and "kind" in value:
        by_kind = [m for m in models if "kind" in m.model_fields and value["kind"] in typing.get_args(m.model_fields["kind"].annotation)]
        models = by_kind or models
    return tuple(dict.fromkeys(name for model_ in models for name in model_.model_fields))


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in _parts(member)]
    return [] if annotation is type(None) else [annotation]


def problem(error: ErrorDetails, path: Path, value: Any, known: tuple[str, ...]) -> Problem:
    """One pydantic error as a Problem. `known` are the keys allowed beside the one in error."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "rackserve":
        return Problem(path, context["problem"], context["allowed"], context["remedy"], shown(path, value))
    if kind == "extra_forbidden":
        name = str(path[-1])
        near = nearest(name, known)
        return Problem(path, "unknown key" + (f"; did you mean {near!r}?" if near else ""), ", ".join(known), "correct or remove the key", shown(path, value))
    if kind == "missing":
        return Problem(path, "is missing", remedy=f"add the key {path[-1]!r}")
    if kind in ("literal_error", "union_tag_invalid", "union_tag_not_found"):
        return _choice(error, path, value)
    if kind in ("too_short", "too_long"):
        return Problem(path, "is empty", f"at least {context.get('min_length', 1)} entry", "add an entry", shown(path, value))
    if kind == "string_too_short":
        return Problem(path, f"is shorter than {context['min_length']} characters", f"at least {context['min_length']} characters", value=shown(path, value))
    if kind in _BOUNDS:
        bound, word = _BOUNDS[kind]
        return Problem(path, "is outside the allowed range", f"{word} {context[bound]:g}", value=shown(path, value))
    return _wrong_type(kind, path, value)


def _choice(error: ErrorDetails, path: Path, value: Any) -> Problem:
    context = error.get("ctx", {})
    allowed = str(context.get("expected") or context.get("expected_tags") or "node, controller, huggingface").replace("'", "").replace(" or ", ", ")
    if error["type"] != "literal_error":
        path, value = (*path, "kind"), value.get("kind") if isinstance(value, Mapping) else value
        if error["type"] == "union_tag_not_found":
            return Problem(path, "is missing", remedy="add the key 'kind'")
    near = nearest(str(value), allowed.split(", "))
    return Problem(path, "is not one of the allowed values" + (f"; did you mean {near!r}?" if near else ""), allowed, value=shown(path, value))


def _wrong_type(kind: str, path: Path, value: Any) -> Problem:
    wanted = next((text for name, text in _TYPES.items() if kind.startswith(name)), "another kind of value")
    remedy = ""
    if wanted == "text" and isinstance(value, int | float) and not isinstance(value, bool) and not is_secret(path):
        remedy = f'write "{value}" in quotes'
    elif isinstance(value, str) and wanted != "text" and not is_secret(path):
        remedy = "remove the quotes; with -e pass JSON, such as -e '{\"service_ports\": {\"api\": 8080}}' (NAME=VALUE is always text)"
    elif value is None:
        remedy = "give it a value, or remove the key"
    return Problem(path, f"is {_is(value)}, not {wanted.removesuffix(' without quotes').removesuffix(', without quotes')}", wanted, remedy, shown(path, value))


def _is(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number with a fraction"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, tuple) else "a mapping"
