"""The inventory's YAML files as text: syntax errors, keys written twice, and the line of every key."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

import yaml

from rackserve.definition.problem import Path, Place, Problem

_ENCRYPTED = "$ANSIBLE_VAULT;"
_NULL = "tag:yaml.org,2002:null"
_SUFFIXES = (".yml", ".yaml", ".json")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Files:
    """`places` has the key paths of group_vars/all as they are merged: the last file wins, as in Ansible."""

    places: dict[Path, Place]
    problems: tuple[Problem, ...]
    encrypted: tuple[str, ...]


def scan(inventory: FilePath) -> Files:
    """Reads every YAML file of an inventory directory (or the one file and the variables beside it)."""
    places: dict[Path, Place] = {}
    problems: list[Problem] = []
    encrypted: list[str] = []
    for file in _yaml_files(inventory):
        found = scan_file(file, _prefix(file))
        places |= found.places
        problems += found.problems
        encrypted += found.encrypted
    return Files(places, tuple(problems), tuple(encrypted))


def scan_file(file: FilePath, prefix: Path = ()) -> Files:
    """Reads one YAML file, which has to be a mapping. `prefix`: what its key paths start with."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        unreadable = Problem(
            (), f"cannot be read: {error}", remedy="correct the file or its permissions", place=Place(str(file))
        )
        return Files({}, (unreadable,), ())
    if text.startswith(_ENCRYPTED):
        return Files({}, (), (str(file),))
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        return Files({}, (_syntax(file, error),), ())
    if node is None or node.tag == _NULL:
        return Files({}, (), ())
    if not isinstance(node, yaml.MappingNode):
        place = Place(str(file), node.start_mark.line + 1)
        no_mapping = Problem(
            (), "is not a mapping", "a file of lines `variable: value`", "correct the file", place=place
        )
        return Files({}, (no_mapping,), ())
    return Files(dict(_places(node, file, prefix)), tuple(_duplicates(node, file, ())), ())


def shared(places: dict[Path, Place], inventory: FilePath) -> dict[str, str]:
    """Variables whose file is a link out of this inventory, with the file that it leads to."""
    top = str((inventory if inventory.is_dir() else inventory.parent).resolve()) + os.sep
    found: dict[str, str] = {}
    for path, place in places.items():
        if len(path) == 1 and isinstance(path[0], str):
            real = os.path.realpath(place.file)
            if real.endswith(_SUFFIXES) and not real.startswith(top):
                found[path[0]] = real
    return found


def _yaml_files(inventory: FilePath) -> Iterator[FilePath]:
    top = inventory if inventory.is_dir() else inventory.parent
    if not inventory.is_dir() and inventory.suffix in _SUFFIXES:
        yield inventory
    roots = [top] if inventory.is_dir() else [top / "group_vars", top / "host_vars"]
    for root in roots:
        for directory, names, files in os.walk(root, followlinks=True):
            names.sort()
            yield from (FilePath(directory) / name for name in sorted(files) if name.endswith(_SUFFIXES))


def _prefix(file: FilePath) -> Path:
    """Host variables are kept below ("host", name), as in problems."""
    parts = file.parts
    if "host_vars" in parts:
        name = parts[parts.index("host_vars") + 1]
        return ("host", name.removesuffix(file.suffix))
    return ()


def _syntax(file: FilePath, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    text = f"is not valid YAML: {what}" + (f" ({context})" if context else "")
    return Problem(
        (),
        text,
        remedy="correct the line, or the one above it",
        place=Place(str(file), mark.line + 1 if mark else None),
    )


def _duplicates(node: yaml.Node, file: FilePath, path: Path) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            here: Path = (*path, name)
            if name in lines and name != "<<":
                yield Problem(
                    here,
                    f"is written twice; the first is in line {lines[name]}",
                    "each key once",
                    "remove one of the two (the last would win)",
                    place=Place(str(file), key.start_mark.line + 1),
                )
            lines.setdefault(name, key.start_mark.line + 1)
            yield from _duplicates(value, file, here)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _duplicates(item, file, (*path, number))


def _places(node: yaml.Node, file: FilePath, path: Path) -> Iterator[tuple[Path, Place]]:
    """Hosts of hosts.yml are found as ("host", name); an entry with variables of its own wins over a mere mention."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here: Path = ("host", str(key.value)) if path[-1:] == ("hosts",) else (*path, str(key.value))
            if path[-1:] != ("hosts",) or isinstance(value, yaml.MappingNode):
                yield here, Place(str(file), key.start_mark.line + 1)
            yield from _places(value, file, here)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), Place(str(file), item.start_mark.line + 1)
            yield from _places(item, file, (*path, number))
