"""The nodes that an inventory asks for: its hosts with a ``lab_os``.

Read with Ansible's own parser, from the inventory's host and group entries. Files in group_vars and host_vars are not
read: they may need a vault password that someone who only starts the lab does not have.
"""

import difflib
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackserve.lab.bases import DISTRIBUTIONS
from rackserve.lab.errors import RefusedError, UsageError
from rackserve.lab.settings import Settings

DEFAULT_DISK_GIB = 4
VARIABLES = ("ansible_host", "lab_os", "lab_disk_gib")


@dataclass(frozen=True)
class NodeSpec:
    name: str
    address: str
    os: str
    disk_gib: int


def _parsed_file(path: Path, cache: Path) -> Path | None:
    """Where the parsed form of exactly these inventory files belongs; None for one whose hosts come from a program."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if not {"group_vars", "host_vars"} & set(file.parts)]
    digest = hashlib.sha256(json.dumps([str(path.resolve()), sorted(_ansible_settings().items())]).encode())
    for file in files:
        content = file.read_bytes()
        if file.stat().st_mode & 0o111 or re.search(rb"^\s*plugin\s*:", content, re.MULTILINE):
            return None
        digest.update(f"{file}\0{len(content)}\0".encode() + content)
    return cache / "inventories" / f"{digest.hexdigest()[:32]}.json"


def _ansible_settings() -> dict[str, str]:
    """What else decides how Ansible reads an inventory."""
    configuration = Path(os.environ.get("ANSIBLE_CONFIG", "ansible.cfg"))
    text = configuration.read_text() if configuration.is_file() else ""
    return {"ansible.cfg": text} | {name: value for name, value in os.environ.items() if name.startswith("ANSIBLE_")}


def remember(path: Path, hosts: Mapping[str, Mapping[str, Any]], cache: Path) -> None:
    """Keep what was read for the next time: Ansible's parser takes longer than everything else of a quiet `up`."""
    parsed = _parsed_file(path, cache)
    plain = all(isinstance(value, str | int) for variables in hosts.values() for value in variables.values())
    if parsed and plain and not parsed.exists():
        parsed.parent.mkdir(parents=True, exist_ok=True)
        candidate = parsed.with_suffix(f".{os.getpid()}")
        candidate.write_text(json.dumps(hosts))
        candidate.rename(parsed)


def read_inventory(path: Path, cache: Path | None = None) -> dict[str, dict[str, Any]]:
    """Host name -> the lab's variables, from the inventory's own entries. With a cache: as it was remembered there."""
    if not path.exists():
        raise UsageError(f"no inventory at {path}. Give one with -i, for example -i inventory/lab.")
    if cache and (parsed := _parsed_file(path, cache)) and parsed.exists():
        found: dict[str, dict[str, Any]] = json.loads(parsed.read_text())
        return found
    # Imported here because it takes half a second, which `lab ssh` and `lab exec` need not pay.
    from ansible import constants
    from ansible.errors import AnsibleError
    from ansible.inventory.helpers import get_group_vars
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    constants.INVENTORY_UNPARSED_IS_FAILED = True
    try:
        inventory = InventoryManager(loader=DataLoader(), sources=[str(path.resolve())])
    except AnsibleError as error:
        raise UsageError(f"inventory {path} cannot be read: {' '.join(str(error).split())}") from None
    everything = {host.name: get_group_vars(host.get_groups()) | host.get_vars() for host in inventory.get_hosts()}
    return {str(name): {key: v[key] for key in VARIABLES if key in v} for name, v in everything.items()}


def _address(where: str, value: object, settings: Settings) -> str:
    try:
        address = ipaddress.IPv4Address(str(value))
    except ValueError:
        raise UsageError(
            f"{where}: ansible_host is {value!r}, a lab node needs an IPv4 address in {settings.network}."
        ) from None
    reserved = (settings.network.network_address, settings.gateway, settings.network.broadcast_address)
    if address not in settings.network or address in reserved:
        raise UsageError(
            f"{where}: ansible_host {address} is not free for a node: use an address in {settings.network} "
            f"other than {', '.join(map(str, reserved))}."
        )
    return str(address)


def _node(where: str, name: str, variables: Mapping[str, Any], settings: Settings) -> NodeSpec:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", name):
        raise UsageError(
            f"{where}: {name!r} cannot be a node's name: 2 to 32 lower-case letters, digits and dashes, a letter first."
        )
    system = str(variables["lab_os"])
    if system not in DISTRIBUTIONS:
        near = difflib.get_close_matches(system, DISTRIBUTIONS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"{where}: lab_os is {system!r}, allowed are {', '.join(DISTRIBUTIONS)}.{hint}")
    size = variables.get("lab_disk_gib", DEFAULT_DISK_GIB)
    if isinstance(size, bool) or not re.fullmatch(r"[0-9]+", str(size)) or not 1 <= int(size) <= 1024:
        raise UsageError(f"{where}: lab_disk_gib is {size!r}, allowed is a whole number of GiB from 1 to 1024.")
    return NodeSpec(name, _address(where, variables.get("ansible_host"), settings), system, int(size))


def node_specs(path: Path, hosts: Mapping[str, Mapping[str, Any]], settings: Settings) -> list[NodeSpec]:
    """The lab nodes among hosts, checked: each usable, no two on one address."""
    specs = [
        _node(f"{path}: host {name}", name, variables, settings)
        for name, variables in sorted(hosts.items())
        if "lab_os" in variables
    ]
    if not specs:
        raise RefusedError(
            f"{path}: none of its {len(hosts)} hosts has lab_os, so there is no lab node to make. "
            f"Add lab_os ({' or '.join(DISTRIBUTIONS)}) to the hosts that the lab shall provide."
        )
    owners: dict[str, str] = {}
    for spec in specs:
        owner = owners.setdefault(spec.address, spec.name)
        if owner != spec.name:
            raise UsageError(f"{path}: hosts {owner} and {spec.name} both have ansible_host {spec.address}.")
    return specs


def known(name: str, names: Iterable[str]) -> str:
    """name if it is one of names; otherwise refused with the near miss."""
    names = sorted(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    there = f"The lab's nodes are {', '.join(names)}." if names else "The lab has no nodes. Run scripts/lab up."
    raise UsageError(f"no lab node {name!r}.{hint} {there}")


def chosen(names: Iterable[str], path: Path | None, present: Iterable[str], settings: Settings) -> list[str] | None:
    """The nodes that a command is about: those named and those of an inventory. None: neither was given, so all."""
    wanted = [known(name, present) for name in names]
    if path:
        wanted += [spec.name for spec in node_specs(path, read_inventory(path), settings)]
    return wanted if wanted or path else None
