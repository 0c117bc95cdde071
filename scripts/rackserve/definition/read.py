"""Plain values in, typed definition out, with every problem of form. What is broken is left out and remembered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rackserve.definition import wording
from rackserve.definition.models import Node, Service
from rackserve.definition.models.node import PREFIX as NODE_PREFIX
from rackserve.definition.models.service import PREFIX, RENAMED
from rackserve.definition.problem import Path, Problem
from rackserve.definition.raw import GROUPS, Raw, Unreadable


@dataclass(frozen=True)
class Definition:
    """A definition that has the right form. `declared` also has the names of entries that were left out as broken."""

    service: Service
    nodes: Mapping[str, Node]
    groups: Mapping[str, tuple[str, ...]]
    declared: Mapping[str, frozenset[str]]

    def members(self, group: str) -> tuple[str, ...]:
        return self.groups.get(group, ())


_MORE_FOLLOWS = Problem(
    (),
    "not everything could be checked: whether names meant for each other exist, ports clash or engines fit",
    remedy="mend the problems above, then check again",
    severity="warning",
)


def read(raw: Raw) -> tuple[Definition | None, tuple[Problem, ...]]:
    """The definition as far as it can be read, None when a needed variable is missing or wholly broken."""
    problems = list(_unknown_variables(raw))
    values = {
        name.removeprefix(PREFIX): value
        for name, value in raw.variables.items()
        if name.removeprefix(PREFIX) in Service.model_fields
    }
    declared = {name: frozenset(map(str, value)) for name, value in values.items() if isinstance(value, Mapping)}
    service, found = _read_service(values)
    problems += found
    nodes, found = _read_nodes(raw)
    problems += found
    if service is None:
        return None, (*problems, _MORE_FOLLOWS)
    return Definition(service, nodes, {group: raw.groups.get(group, ()) for group in GROUPS}, declared), tuple(problems)


def _unknown_variables(raw: Raw) -> Iterator[Problem]:
    known = [PREFIX + name for name in Service.model_fields]
    for name in raw.variables:
        if name in RENAMED:
            yield Problem((name,), f"has been renamed to {RENAMED[name]}", remedy=f"rename it to {RENAMED[name]}")
        elif name.startswith(PREFIX) and name not in known:
            near = wording.nearest(name, known)
            yield Problem(
                (name,),
                "unknown variable" + (f"; did you mean {near!r}?" if near else ""),
                "the variables in docs/definition.md; the prefix service_ is the definition's own",
                "correct the name, or use another prefix for your own variables",
            )


def _read_service(values: Mapping[str, Any]) -> tuple[Service | None, list[Problem]]:
    """Reads everything; entries with problems are dropped and the rest is read again, to be cross-checked."""
    rest: dict[str, Any] = dict(values)
    problems: dict[Path, Problem] = {}
    for _ in range(4):
        try:
            return Service.model_validate(rest), list(problems.values())
        except ValidationError as error:
            found = list(_problems(error, values))
        for problem, known in found:
            if not known:
                problems.setdefault(problem.path, problem)
        if not _drop(rest, [_plain(problem.path) for problem, _ in found]):
            break
    return None, list(problems.values())


def _plain(path: Path) -> Path:
    return (str(path[0]).removeprefix(PREFIX), *path[1:])


def _drop(values: dict[str, Any], paths: list[Path]) -> bool:
    """Removes the broken entries. False when one is a needed variable, so that nothing can be cross-checked."""
    required = {name for name, info in Service.model_fields.items() if info.is_required()}
    # A list keeps its numbering for the messages of the next round, so a broken list goes as a whole.
    entries = {
        path[:2] if isinstance(values.get(str(path[0])), Mapping) and len(path) > 1 else path[:1] for path in paths
    }
    for entry in entries:
        top = str(entry[0])
        if len(entry) == 2 and top in {"models", "releases", "pools", "lanes", "tenants", "scenarios"}:
            values[top] = {key: value for key, value in values[top].items() if key != entry[1]}
        elif top in required:
            if top == "engine_key":
                values[top] = "-" * 16
            elif top == "name":
                values[top] = "unnamed"
            elif top == "stage":
                values[top] = "dev"
            else:
                return False
        else:
            values.pop(top, None)
    return all(values.get(name) for name in required)


def _problems(error: ValidationError, values: Mapping[str, Any]) -> Iterator[tuple[Problem, bool]]:
    """Each with whether it is known already, as a template that could not be rendered."""
    found, kinds = [], []
    for detail in error.errors(include_url=False, include_input=False):
        path = wording.key_path(detail, (), values)
        value = str(path[-1]) if detail["loc"][-1] == "[key]" else _at(values, path)
        full: Path = (PREFIX + str(path[0]), *path[1:])
        kinds.append(detail["type"])
        found.append(
            (wording.problem(detail, full, value, wording.beside(Service, path, values)), isinstance(value, Unreadable))
        )
    # A list is short of entries when those that it has are wrong.
    inner = {problem.path[:length] for problem, _ in found for length in range(len(problem.path))}
    found = [one for one, kind in zip(found, kinds, strict=True) if kind != "too_short" or one[0].path not in inner]
    # A misspelt key is one mistake: the key that it should be is then missing as well.
    meant = {(*problem.path[:-1], name) for problem, _ in found if (name := problem.meant) is not None}
    yield from ((problem, known) for problem, known in found if problem.path not in meant)


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = wording.item(value, part)
    return value


def _read_nodes(raw: Raw) -> tuple[dict[str, Node], list[Problem]]:
    nodes: dict[str, Node] = {}
    problems: list[Problem] = []
    for name in dict.fromkeys(host for group in GROUPS for host in raw.groups.get(group, ())):
        variables = raw.hosts.get(name, {})
        problems += _unknown_node_variables(name, variables)
        values = {
            key.removeprefix(NODE_PREFIX): value
            for key, value in variables.items()
            if key.removeprefix(NODE_PREFIX) in Node.model_fields
        }
        values.pop("ssh_port", None)
        origins = {"address": "node_address" if "address" in values else "ansible_host", "ssh_port": "ansible_port"}
        if "address" not in values and variables.get("ansible_host") is not None:
            values["address"] = variables["ansible_host"]
        port = variables.get("ansible_port")
        if port is not None:
            values["ssh_port"] = int(port) if isinstance(port, str) and port.isdecimal() else port
        try:
            nodes[name] = Node.model_validate(values)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                field = str(detail["loc"][0])
                path: Path = ("host", name, origins.get(field, NODE_PREFIX + field))
                if detail["type"] == "missing":
                    problems.append(
                        Problem(
                            ("host", name),
                            "has no address",
                            "ansible_host, or node_address where ssh takes another way",
                            "add ansible_host to the host in hosts.yml",
                        )
                    )
                elif not isinstance(values.get(field), Unreadable):
                    problems.append(wording.problem(detail, path, values.get(field), {field: Node.model_fields[field]}))
    return nodes, problems


def _unknown_node_variables(host: str, variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Only likely typing mistakes: other roles may have variables that start with node_ (node_exporter_...)."""
    known = [NODE_PREFIX + name for name in Node.model_fields if name != "ssh_port"]
    for name in variables:
        if (
            name.startswith(NODE_PREFIX)
            and name not in known
            and (near := wording.nearest(name, known))
            and not name.startswith("node_exporter_")
        ):
            yield Problem(
                ("host", host, name), f"unknown variable; did you mean {near!r}?", ", ".join(known), "correct the name"
            )
