"""Pydantic's errors in our words: what is wrong, what is allowed, what to do."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rackserve.definition.problem import Path, Problem, count, is_secret, shown

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "mapping": "a mapping (key: value)",
    "dict": "a mapping (key: value)",
    "model": "a mapping (key: value)",
}
_RANGE_ERRORS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_BOUNDS = (("gt", "over"), ("ge", "from"), ("lt", "below"), ("le", "up to"))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a typing mistake most likely meant."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def unknown(path: Path, kind: str, name: str, known: Iterable[str], remedy: str = "") -> Problem:
    """A name that refers to nothing."""
    names = sorted(known)
    near = nearest(name, names)
    allowed = (
        ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        if names
        else "none is defined"
    )
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
        value = item(value, part)
    return (*prefix, *path)


def beside(model: type[BaseModel], path: Path, value: Any) -> Mapping[str, FieldInfo]:
    """The fields that the mapping around the last part of `path` may have, with the kind that it says it is."""
    kinds: list[Any] = [model]
    for part in path[:-1]:
        kinds = [inner for kind in kinds for inner in _inside(kind, part)]
        value = item(value, part)
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if isinstance(value, Mapping) and "kind" in value:
        models = [
            m
            for m in models
            if "kind" in m.model_fields and value["kind"] in typing.get_args(m.model_fields["kind"].annotation)
        ] or models
    return {name: info for one in models for name, info in one.model_fields.items()}


def item(value: Any, part: str | int) -> Any:
    """What stands at a key or number; None when there is no such thing."""
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _inside(kind: Any, part: str | int) -> list[Any]:
    """What a model, mapping or list may hold at `part`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        info = kind.model_fields.get(str(part))
        return members(info.annotation) if info else []
    arguments = typing.get_args(kind)
    if not arguments:
        return []
    return members(arguments[0] if isinstance(part, int) else arguments[-1])


def members(annotation: Any) -> list[Any]:
    """The members of a union, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in members(member)]
    return [] if annotation is type(None) else [annotation]


def allowed_range(info: FieldInfo | None) -> str:
    """The bounds of a number, such as "from 1 up to 65535"; empty without bounds."""
    found: dict[str, float] = {}
    for constraint in _constraints(info.annotation, info.metadata) if info else ():
        found |= {name: getattr(constraint, name) for name, _ in _BOUNDS if hasattr(constraint, name)}
    return " ".join(f"{word} {_number(found[name])}" for name, word in _BOUNDS if name in found)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _constraints(annotation: Any, metadata: Iterable[Any]) -> Iterator[Any]:
    """Constraints stand on the field, or on the members of its union, once more inside FieldInfo."""
    for entry in metadata:
        yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *extra = typing.get_args(annotation)
        yield from _constraints(inner, extra)
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _constraints(member, ())


def problem(error: ErrorDetails, path: Path, value: Any, fields: Mapping[str, FieldInfo]) -> Problem:
    """One pydantic error as a Problem. `fields` are those that may stand beside (and as) the key in error."""
    kind, context = error["type"], error.get("ctx", {})
    info = fields.get(str(path[-1]).removeprefix("service_"))
    if kind == "rackserve":
        return Problem(path, context["problem"], context["allowed"], context["remedy"], shown(path, value))
    if kind == "extra_forbidden":
        near = nearest(str(path[-1]), fields)
        text = "unknown key" + (f"; did you mean {near!r}?" if near else "")
        return Problem(path, text, ", ".join(fields), "correct or remove the key", shown(path, value), meant=near)
    if kind == "missing":
        description = (info.description or "") if info else ""
        return Problem(path, "is missing", description[:1].lower() + description[1:], f"add the key {path[-1]!r}")
    if kind in ("literal_error", "union_tag_invalid", "union_tag_not_found"):
        return _choice(error, path, value)
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        if is_secret(path):
            return Problem(
                path,
                f"is shorter than {count(least, 'character')}",
                f"at least {count(least, 'character')}",
                "make a longer one: openssl rand -hex 32",
                "(hidden)",
            )
        return Problem(
            path,
            "is empty",
            f"at least {least} {'entry' if least == 1 else 'entries'}",
            "add an entry",
            shown(path, value),
        )
    if kind in _RANGE_ERRORS:
        own = " ".join(f"{word} {_number(context[name])}" for name, word in _BOUNDS if name in context)
        return Problem(
            path,
            "is outside the allowed range",
            allowed_range(info) or own,
            "choose a value in that range",
            shown(path, value),
        )
    return _wrong_type(kind, path, value)


def _choice(error: ErrorDetails, path: Path, value: Any) -> Problem:
    context = error.get("ctx", {})
    allowed = str(context.get("expected") or context.get("expected_tags") or "").replace("'", "").replace(" or ", ", ")
    if error["type"] != "literal_error":
        path, value = (*path, "kind"), value.get("kind") if isinstance(value, Mapping) else value
        if error["type"] == "union_tag_not_found":
            return Problem(path, "is missing", remedy="add the key 'kind'")
    near = nearest(str(value), allowed.split(", "))
    text = "is not one of the allowed values" + (f"; did you mean {near!r}?" if near else "")
    return Problem(path, text, allowed, "choose one of them", shown(path, value))


def _wrong_type(kind: str, path: Path, value: Any) -> Problem:
    wanted = next((text for name, text in _TYPES.items() if kind.startswith(name)), "another kind of value")
    quoting = "" if wanted in ("text", "a list", "a mapping (key: value)") else " without quotes"
    return Problem(
        path,
        f"is {_is(value)}, not {wanted}",
        f"{wanted}{quoting}",
        _type_remedy(path, value, wanted),
        shown(path, value),
    )


def _type_remedy(path: Path, value: Any, wanted: str) -> str:
    if value is None:
        return "give it a value, or remove the key"
    if wanted == "text" and isinstance(value, int | float):
        return "write it in quotes" if is_secret(path) or isinstance(value, bool) else f'write "{value}" in quotes'
    if isinstance(value, str) and wanted != "text":
        if _would_fit(value, wanted):
            return "remove the quotes; with -e pass JSON, as -e NAME=VALUE is always text: -e '{\"NAME\": VALUE}'"
        return f"write {wanted}"
    return f"write {wanted}"


def _would_fit(text: str, wanted: str) -> bool:
    """Whether the text is only a value in quotes."""
    if wanted in ("a whole number", "a number"):
        return text.strip().replace(".", "", 1).lstrip("-").isdecimal()
    if wanted == "true or false":
        return text.strip().lower() in ("true", "false", "yes", "no")
    return text.strip()[:1] in ("{", "[")


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
