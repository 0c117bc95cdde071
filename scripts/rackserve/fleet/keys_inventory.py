"""Edits a tenant's keys in the text of an inventory file: only the lines of that key change, comments stay.

The places come from the YAML parser, the edit is one of lines, and the result is parsed again and compared.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from rackserve.fleet.keys import KeyRefused

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
VARIABLE = "service_tenants"


def add_key(text: str, tenant: str, key_id: str, sha256: str, lane: str | None = None) -> str:
    """Behind the tenant's other keys, as one line."""
    item = f"{{id: {key_id}, sha256: {sha256}{f', lane: {lane}' if lane else ''}}}"
    lines, body, keys = _find(text, tenant)
    if keys is None:
        column = body.start_mark.column
        at = _last_line(lines, body) + 1
        lines[at:at] = [f"{' ' * column}keys:", f"{' ' * column}  - {item}"]
    elif not keys.value:
        start = keys.start_mark
        column = _find_key(body, "keys").start_mark.column
        lines[start.line] = f"{lines[start.line][: start.column].rstrip()}"
        lines.insert(start.line + 1, f"{' ' * column}  - {item}")
    elif keys.flow_style:
        end = keys.end_mark
        lines[end.line] = f"{lines[end.line][: end.column - 1]}, {item}{lines[end.line][end.column - 1 :]}"
    else:
        at = _last_line(lines, keys.value[-1]) + 1
        lines.insert(at, f"{' ' * keys.start_mark.column}- {item}")
    return _checked(lines, tenant, text, lambda before: [*before, _plain_item(item)])


def remove_key(text: str, tenant: str, key_id: str) -> str:
    lines, body, keys = _find(text, tenant)
    number, item = _item(keys, tenant, key_id)
    if keys.flow_style:
        start, end = keys.start_mark, keys.end_mark
        if start.line != end.line:
            raise KeyRefused(f"the keys of {tenant} stand in brackets over several lines; write one key per line")
        kept = [_slice(lines, one) for one in keys.value if one is not item]
        line = lines[start.line]
        lines[start.line] = f"{line[: start.column]}[{', '.join(kept)}]{line[end.column :]}"
    else:
        del lines[item.start_mark.line : _last_line(lines, item) + 1]
        if len(keys.value) == 1:
            at = _find_key(body, "keys").end_mark
            lines[at.line] = f"{lines[at.line][: at.column]}: []"
    return _checked(lines, tenant, text, lambda before: [*before[:number], *before[number + 1 :]])


def set_expiry(text: str, tenant: str, key_id: str, day: str) -> str:
    lines, _, keys = _find(text, tenant)
    number, item = _item(keys, tenant, key_id)
    old = next((value for name, value in item.value if name.value == "expires"), None)
    if old is not None:
        line = lines[old.start_mark.line]
        lines[old.start_mark.line] = f'{line[: old.start_mark.column]}"{day}"{line[old.end_mark.column :]}'
    elif item.flow_style:
        end = item.end_mark
        lines[end.line] = f'{lines[end.line][: end.column - 1]}, expires: "{day}"{lines[end.line][end.column - 1 :]}'
    else:
        lines.insert(_last_line(lines, item) + 1, f'{" " * item.start_mark.column}expires: "{day}"')

    def changed(before: list[Any]) -> list[Any]:
        return [{**one, "expires": day} if at == number else one for at, one in enumerate(before)]

    return _checked(lines, tenant, text, changed)


def write(path: Path, text: str) -> None:
    """Whole or not at all; a linked file is written where it really is."""
    real = path.resolve()
    handle, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), real.stat().st_mode & 0o7777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, real)


def _find(text: str, tenant: str) -> tuple[list[str], Any, Any]:
    """Lines, the tenant's mapping, and its list of keys (None when there is none)."""
    root = yaml.compose(text, Loader=_Loader)
    tenants = _value(root, VARIABLE)
    body = _value(tenants, tenant)
    if not isinstance(body, yaml.MappingNode):
        raise KeyRefused(f"{VARIABLE}.{tenant} is not written out in this file")
    keys = _value(body, "keys")
    if keys is None and body.flow_style:
        raise KeyRefused(f"{VARIABLE}.{tenant} stands in braces; write it over several lines, with `keys:` on its own")
    if keys is not None and not isinstance(keys, yaml.SequenceNode):
        raise KeyRefused(f"{VARIABLE}.{tenant}.keys is not a list written out in this file")
    return text.split("\n"), body, keys


def _value(mapping: Any, name: str) -> Any:
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((value for key, value in mapping.value if key.value == name), None)


def _find_key(mapping: Any, name: str) -> Any:
    return next(key for key, _ in mapping.value if key.value == name)


def _item(keys: Any, tenant: str, key_id: str) -> tuple[int, Any]:
    for number, item in enumerate(keys.value if keys is not None else ()):
        identity = _value(item, "id")
        if identity is not None and identity.value == key_id:
            return number, item
    raise KeyRefused(
        f"{tenant} has no key {key_id} in this file. If it was removed already, `scripts/keys sync` tells the balancers."
    )


def _last_line(lines: list[str], node: Any) -> int:
    """A block ends where the next token starts: comments and blank lines before that are not part of it."""
    end = node.end_mark
    last: int = end.line if end.column and (getattr(node, "flow_style", None) is not False) else end.line - 1
    while last > node.start_mark.line and (not lines[last].strip() or lines[last].lstrip().startswith("#")):
        last -= 1
    return last


def _slice(lines: list[str], node: Any) -> str:
    line = lines[node.start_mark.line]
    return str(line[node.start_mark.column : node.end_mark.column])


def _plain_item(item: str) -> Any:
    return yaml.safe_load(item)


def _keys(text: str, tenant: str) -> tuple[list[Any], Any]:
    """The tenant's keys, and everything else, as plain values; tags such as !vault are kept as text."""
    whole = _plain(yaml.compose(text, Loader=_Loader))
    body = whole[VARIABLE][tenant]
    keys = body.pop("keys", None) or []
    return keys, whole


def _plain(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value) for value in node.value]
    return node.value if node is not None else None


def _checked(lines: list[str], tenant: str, before: str, change: Callable[[list[Any]], list[Any]]) -> str:
    """The new text, if it says exactly what was meant."""
    after = "\n".join(lines)
    old_keys, old_rest = _keys(before, tenant)
    try:
        keys, rest = _keys(after, tenant)
    except (yaml.YAMLError, KeyError, AttributeError):
        keys, rest = [], None
    if rest != old_rest or keys != change(old_keys):
        raise KeyRefused(
            f"the keys of {tenant} are written in a form that cannot be edited here; one key per line, please"
        )
    return after
