"""A role's argument specs and its defaults say the same: same names, same values, true types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if (path / "tasks").is_dir())
TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "path": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "dict": dict,
}


class Loader(yaml.SafeLoader):
    """Ansible's own tags (a secret, an unsafe string) are plain strings here."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: node.value)


def read(path: Path) -> dict[str, Any]:
    content = yaml.load(path.read_text(), Loader)
    return content or {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    return read(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {}


def defaults(role: Path) -> dict[str, Any]:
    path = role / "defaults/main.yml"
    return read(path) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_has_a_spec_with_the_same_value(role: Path) -> None:
    spec = options(role)
    for name, value in defaults(role).items():
        assert name in spec, f"{role.name}: {name} is in defaults/main.yml and not in meta/argument_specs.yml"
        assert spec[name].get("default") == value, (
            f"{role.name}: {name} is {value!r} in defaults/main.yml "
            f"and {spec[name].get('default')!r} in meta/argument_specs.yml"
        )


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_spec_has_a_default_or_is_required(role: Path) -> None:
    known = defaults(role)
    for name, option in options(role).items():
        if option.get("required"):
            assert name not in known, f"{role.name}: {name} is required and has a default"
        else:
            assert name in known, f"{role.name}: {name} is neither required nor in defaults/main.yml"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_variables_carry_the_name_of_their_role(role: Path) -> None:
    strange = [name for name in options(role) if not name.startswith(f"{role.name}_")]
    assert not strange, f"{role.name}: {', '.join(strange)}"


def check_option(place: str, option: dict[str, Any]) -> None:
    assert option.get("description"), f"{place} has no description"
    assert option.get("type") in TYPES, f"{place} has type {option.get('type')!r}"
    if option["type"] == "list":
        assert option.get("elements") in TYPES, f"{place} does not say what its elements are"
    default = option.get("default")
    # A default with a template gets its type when it is used.
    if default is not None and not (isinstance(default, str) and "{{" in default):
        assert isinstance(default, TYPES[option["type"]]), (
            f"{place} is a {option['type']} by its spec; its default is {default!r}"
        )
    for name, inner in (option.get("options") or {}).items():
        check_option(f"{place}.{name}", inner)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_is_described_with_a_true_type(role: Path) -> None:
    for name, option in options(role).items():
        check_option(f"{role.name}: {name}", option)
