"""From Ansible's variables to plain values: renders templates, strips tags, and notes where each value stands.

Needs Ansible's exceptions and tags, but reads no file and contacts no host: action plugin and loader both use it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ansible.errors import AnsibleError

from rackserve.definition.models.node import PREFIX as NODE_PREFIX
from rackserve.definition.models.service import PREFIX
from rackserve.definition.problem import Path, Place, Problem, shown
from rackserve.definition.raw import GROUPS, Raw, Unreadable

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # Another ansible-core: key paths are then looked up in the files (rackserve.definition.files).
    Origin = None

# Set by tasks, not by operators.
_RUNTIME = frozenset({"service_plan"})
_HOST_VARIABLES = ("ansible_host", "ansible_port")


class View(Protocol):
    """What Ansible knows of an inventory."""

    def groups(self) -> Mapping[str, Sequence[str]]: ...

    def raw(self, host: str) -> Mapping[str, Any]:
        """Variables of a host, templates not rendered."""

    def render(self, host: str, value: Any) -> Any:
        """A value with its templates rendered for a host. Raises AnsibleError."""


def collect(view: View) -> Raw:
    """Everything the validator needs to know."""
    groups = {name: tuple(view.groups().get(name, ())) for name in GROUPS}
    hosts = tuple(dict.fromkeys(host for members in groups.values() for host in members))
    places: dict[Path, Place] = {}
    if not hosts:
        return Raw({}, {}, groups, places)
    collected = [view.raw(host) for host in hosts]
    problems = list(_differences(hosts, collected))
    variables: dict[str, Any] = {}
    for name in _service_names(collected[0]):
        _note(places, (str(name),), collected[0][name], name)
        variables[str(name)] = _value(view, hosts[0], (str(name),), collected[0][name], places, problems)
    nodes: dict[str, dict[str, Any]] = {}
    for host, raw in zip(hosts, collected, strict=True):
        names = [name for name in raw if str(name).startswith(NODE_PREFIX) or name in _HOST_VARIABLES]
        nodes[host] = {}
        for name in names:
            path: Path = ("host", host, str(name))
            _note(places, path, raw[name], name)
            nodes[host][str(name)] = _value(view, host, path, raw[name], places, problems)
    return Raw(variables, nodes, groups, places, tuple(problems))


def _service_names(raw: Mapping[str, Any]) -> list[str]:
    return [name for name in raw if str(name).startswith(PREFIX) and name not in _RUNTIME]


def _differences(hosts: Sequence[str], collected: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """The definition is one for all hosts; a value for one host alone would be read or ignored by chance."""
    first, *others = collected
    names = {str(name) for raw in collected for name in _service_names(raw)}
    for name in sorted(names):
        for host, raw in zip(hosts[1:], others, strict=True):
            if name not in raw or name not in first or raw[name] != first[name]:
                yield Problem(
                    (name,),
                    f"is not the same for {host} and {hosts[0]}",
                    "service_ variables are the same for every host",
                    "set it once, in group_vars/all/",
                    place=_place(raw[name] if name in raw else first[name]),
                )
                break


def _value(view: View, host: str, path: Path, value: Any, places: dict[Path, Place], problems: list[Problem]) -> Any:
    """Renders a whole variable; where that fails, renders its parts, so that every broken template is found."""
    try:
        return plain(view.render(host, value), path, places)
    except (AnsibleError, RecursionError) as error:
        before = len(problems)
        result = _parts(view, host, path, value, places, problems)
        if len(problems) == before:
            problems.append(_template_problem(path, value, error))
        return result


def _parts(view: View, host: str, path: Path, value: Any, places: dict[Path, Place], problems: list[Problem]) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            _note(places, (*path, str(key)), value[key], key)
        return {str(key): _parts(view, host, (*path, str(key)), item, places, problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_parts(view, host, (*path, number), item, places, problems) for number, item in enumerate(value))
    try:
        return plain(view.render(host, value), path, places)
    except (AnsibleError, RecursionError) as error:
        problems.append(_template_problem(path, value, error))
        return Unreadable()


def _template_problem(path: Path, value: Any, error: BaseException) -> Problem:
    text = str(getattr(error, "message", None) or error).splitlines()[0].rstrip(".")
    if "undecryptable" in text.lower() or "decrypt" in text.lower():
        text, remedy = (
            "no given password opens its encrypted value",
            "pass --vault-id NAME@prompt or --vault-password-file FILE",
        )
    elif "recursive" in text.lower():
        text, remedy = "it refers to itself", "correct the template"
    elif "undefined" in text.lower():
        remedy = "define the variable: secrets in group_vars/all/vault.yml (ansible-vault edit), see docs/definition.md"
    else:
        remedy = "correct the template"
    return Problem(path, f"cannot be rendered: {text}", remedy=remedy, value=shown(path, value), place=_place(value))


def plain(value: Any, path: Path, places: dict[Path, Place]) -> Any:
    """The value without Ansible's tags, lists as tuples. Notes the place of everything that has one."""
    if isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            _note(places, (*path, str(key)), item, key)
            result[str(key)] = plain(item, (*path, str(key)), places)
        return result
    if isinstance(value, list | tuple):
        items = []
        for number, item in enumerate(value):
            _note(places, (*path, number), item)
            items.append(plain(item, (*path, number), places))
        return tuple(items)
    for kind in (bool, str, int, float):
        if isinstance(value, kind):
            return value if kind is bool else kind(value)
    return None if value is None else str(value)


def _note(places: dict[Path, Place], path: Path, value: Any, key: Any = None) -> None:
    """The line of the key is where an editor has to go. But of a variable that a later file overrides, Ansible keeps
    the first file's key with the last file's value, so the value decides on the file."""
    of_key, of_value = _place(key) if key is not None else None, _place(value)
    place = of_key if of_key and (of_value is None or of_value.file == of_key.file) else of_value
    if place is not None:
        places.setdefault(path, place)


def _place(value: Any) -> Place | None:
    if Origin is None or (origin := Origin.get_tag(value)) is None:
        return None
    return Place(str(origin.path), origin.line_num) if origin.path else None
