"""Reads an inventory as ansible-playbook does, without touching a host. For scripts; Ansible has the action plugin."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path as FilePath
from typing import Any

import rackserve.environment

REPOSITORY = rackserve.environment.REPOSITORY
# Ansible reads its configuration when it is imported. Keys written twice are reported by our own scan, with all others.
os.environ.setdefault("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
os.environ.setdefault("ANSIBLE_DUPLICATE_YAML_DICT_KEY", "ignore")

from ansible.errors import AnsibleError  # noqa: E402  (after the environment above)
from ansible.inventory.manager import InventoryManager  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402
from ansible.template import Templar  # noqa: E402
from ansible.vars.manager import VariableManager  # noqa: E402

from rackserve.definition.collect import collect  # noqa: E402
from rackserve.definition.files import scan, shared  # noqa: E402
from rackserve.definition.outcome import Outcome, validate  # noqa: E402
from rackserve.definition.problem import Place, Problem  # noqa: E402
from rackserve.definition.raw import Raw  # noqa: E402
from rackserve.definition.vault import REMEDY, locked, unlock  # noqa: E402


class InventoryError(Exception):
    """The inventory cannot be read at all. Carries problems as validate() would report them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class HostVariables(Mapping[str, Any]):
    """A host's variables; each is rendered when it is asked for."""

    def __init__(self, view: "AnsibleView", host: str) -> None:
        self._view, self._host = view, host

    def __getitem__(self, name: str) -> Any:
        return self._view.render(self._host, self._view.raw(self._host)[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.raw(self._host))

    def __len__(self) -> int:
        return len(self._view.raw(self._host))


class AnsibleView:
    """An inventory through Ansible's own loader, inventory and variable managers."""

    def __init__(self, loader: DataLoader, manager: InventoryManager) -> None:
        self._loader, self._manager = loader, manager
        self._variables = VariableManager(loader=loader, inventory=manager)
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._templars: dict[str, Templar] = {}

    def hosts(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self._manager.hosts)

    def groups(self) -> Mapping[str, Sequence[str]]:
        return {str(name): [str(host) for host in hosts] for name, hosts in self._manager.get_groups_dict().items()}

    def raw(self, host: str) -> Mapping[str, Any]:
        if host not in self._raw:
            self._raw[host] = self._variables.get_vars(host=self._manager.get_host(host))
        return self._raw[host]

    def render(self, host: str, value: Any) -> Any:
        if host not in self._templars:
            self._templars[host] = Templar(self._loader, self.raw(host))
        return self._templars[host].template(value)


@dataclass(frozen=True)
class Inventory:
    """An inventory and what the validator says of it."""

    path: FilePath
    raw: Raw
    hosts: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, tuple[str, ...]]

    @cached_property
    def outcome(self) -> Outcome:
        return validate(self.raw)

    @property
    def plan(self) -> dict[str, Any]:
        """The resolved plan. Raises InventoryError with every problem when the definition has some."""
        if self.outcome.plan is None:
            raise InventoryError(self.outcome.problems)
        return self.outcome.plan


def load_inventory(
    path: FilePath | str, vault_ids: Sequence[str] = (), vault_password_files: Sequence[str] = ()
) -> Inventory:
    """Reads an inventory. Raises InventoryError when a file is missing or broken, or a vault password is not known."""
    path = FilePath(path)
    if not path.exists():
        raise InventoryError([_missing(path)])
    files = scan(path)
    if broken := [problem for problem in files.problems if not problem.path]:
        raise InventoryError(_relative(broken))
    _init_plugins()
    loader = DataLoader()
    try:
        unlock(loader, vault_ids, vault_password_files)
        if closed := locked(loader, files.encrypted):
            raise InventoryError(_relative(closed))
        view = AnsibleView(loader, InventoryManager(loader=loader, sources=[str(path.resolve())]))
        raw = collect(view)
    except AnsibleError as error:
        raise InventoryError([_ansible_problem(path, error)]) from error
    places = {**files.places, **raw.places}
    raw = replace(
        raw,
        places={key: _short(place) for key, place in places.items()},
        problems=(*_relative(files.problems), *_relative(raw.problems)),
        shared=shared(places, path),
        source=str(path),
    )
    groups = {name: tuple(members) for name, members in view.groups().items()}
    return Inventory(path, raw, {host: HostVariables(view, host) for host in view.hosts()}, groups)


def _missing(path: FilePath) -> Problem:
    known = sorted(entry.name for entry in (REPOSITORY / "inventory").iterdir() if (entry / "hosts.yml").exists())
    return Problem(
        (),
        "there is no such inventory",
        f"{REPOSITORY / 'inventory'} has {', '.join(known)}",
        "correct the path",
        str(path.absolute()),
        place=Place(str(path)),
    )


@lru_cache(maxsize=1)
def _init_plugins() -> None:
    """Once in a process; Ansible warns about a second time."""
    init_plugin_loader()


def _ansible_problem(path: FilePath, error: AnsibleError) -> Problem:
    """Ansible's own refusal, with the reasons behind it."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(" ".join(str(getattr(cause, "message", None) or cause).split()).rstrip("."))
        cause = cause.__cause__
    text = ": ".join(dict.fromkeys(texts)).replace(f"{FilePath.cwd()}/", "")
    return Problem((), text, remedy=REMEDY if "vault password file" in text.lower() else "", place=Place(str(path)))


@lru_cache(maxsize=256)
def _shown_file(file: str, folder: FilePath) -> str:
    """Relative to where the operator stands; a link keeps its own name, because that is what they see."""
    path = FilePath(os.path.abspath(file))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else file


def _relative(problems: Sequence[Problem]) -> list[Problem]:
    return [replace(problem, place=_short(problem.place)) if problem.place else problem for problem in problems]


def _short(place: Place) -> Place:
    return Place(_shown_file(place.file, FilePath.cwd()), place.line)


__all__ = ["Inventory", "InventoryError", "load_inventory"]
