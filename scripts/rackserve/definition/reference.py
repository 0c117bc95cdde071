"""The reference of docs/definition.md, made from the models: every key, kind of value, default and meaning."""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from rackserve.definition.models.node import PREFIX as NODE_PREFIX
from rackserve.definition.models.node import Node
from rackserve.definition.models.service import PREFIX, Service
from rackserve.definition.wording import allowed_range, members

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
_PLAIN: Mapping[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    SecretStr: "secret text",
}
# Not set by hand, so of no use to a reader.
_TAKEN_FROM_ANSIBLE = frozenset({"ssh_port"})


def reference() -> str:
    """The tables, in the order in which the models refer to each other."""
    tables = [
        _table("Variables of the service", Service, PREFIX, "group_vars/all/service.yml"),
        _table("Variables of a host", Node, NODE_PREFIX, "hosts.yml or host_vars/"),
    ]
    tables += [_table(model.__name__, model, "", "") for model in _inner(Service)]
    return "\n".join(tables)


def with_reference(document: str) -> str:
    """The document with the part between the two marks replaced."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{reference()}{END}{tail}"


def _inner(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Every model reachable from `model`, each once, parents before children."""
    found: dict[type[BaseModel], None] = {}
    waiting = [model]
    while waiting:
        for info in waiting.pop(0).model_fields.values():
            for inner in _models(info.annotation):
                if inner not in found:
                    found[inner] = None
                    waiting.append(inner)
    return list(found)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
        for argument in typing.get_args(member):
            yield from _models(argument)


def _table(title: str, model: type[BaseModel], prefix: str, where: str) -> str:
    intro = " ".join((model.__doc__ or "").split()) if not prefix else f"Written in {where}."
    rows = [_row(prefix + name, info) for name, info in model.model_fields.items() if name not in _TAKEN_FROM_ANSIBLE]
    head = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {title}", "", intro, "", *head, *rows, ""])


def _row(name: str, info: FieldInfo) -> str:
    default = "required" if info.is_required() else _default(info)
    value = " ".join(part for part in (_kind(info.annotation), allowed_range(info)) if part)
    return f"| `{name}` | {value} | {default} | {info.description} |"


def _default(info: FieldInfo) -> str:
    value = info.default
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: Any) -> str:
    """What may be written: text, number, one of the named words, a list of ..., a mapping of ...; models are links."""
    parts = members(annotation)
    words = [
        argument for part in parts if typing.get_origin(part) is typing.Literal for argument in typing.get_args(part)
    ]
    if words and len(parts) == 1:
        return ", ".join(f"`{word}`" for word in words)
    names = dict.fromkeys(_one(part) for part in parts)
    return " or ".join(names) if len(names) < 4 else "text, a number, true or false, or a list of these"


def _one(part: Any) -> str:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {_kind(arguments[-1])}"
    if isinstance(part, type) and issubclass(part, BaseModel):
        return f"[{part.__name__}](#{part.__name__.lower()})"
    return _PLAIN[part] if not isinstance(part, types.UnionType) else _kind(part)
