"""The moves behind scripts/keys: edit the inventory, check it as a whole, bring every balancer to it."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackserve.definition.load import Inventory, InventoryError, load_inventory
from rackserve.fleet import keys_inventory
from rackserve.fleet.balancers import Outcome, balancers_of, on_each
from rackserve.fleet.haproxy_variables import variables
from rackserve.fleet.keys import KeyRefused
from rackserve.fleet.keys_apply import Applied, apply, wanted_for
from rackserve.fleet.ssh import Host


@dataclass(frozen=True)
class Source:
    """The inventory and how its vaults are opened, as the operator gave them."""

    path: Path
    vault_ids: Sequence[str] = ()
    vault_files: Sequence[str] = ()

    def load(self) -> Inventory:
        return load_inventory(self.path, self.vault_ids, self.vault_files)


@dataclass(frozen=True)
class Edit:
    """A change of one file, not written yet."""

    file: Path
    before: str
    after: str

    @property
    def lines(self) -> list[str]:
        difference = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=0)
        return [line for line in difference if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def file_of(inventory: Inventory, tenant: str) -> Path:
    """The file in which the tenant is written out."""
    place = inventory.raw.places.get((keys_inventory.VARIABLE, tenant))
    if place is None or not Path(place.file).is_file():
        raise KeyRefused(
            f"no readable file of {inventory.path} writes out service_tenants.{tenant}; it may be in an encrypted file. "
            "Tenants hold only hashes: keep them in a plain file such as service.yml."
        )
    return Path(place.file)


def plan_edit(inventory: Inventory, tenant: str, *changes: Callable[[str], str]) -> Edit:
    file = file_of(inventory, tenant)
    before = after = file.read_text(encoding="utf-8")
    for change in changes:
        after = change(after)
    return Edit(file, before, after)


def commit(source: Source, edit: Edit) -> Inventory:
    """Writes the file and reads the whole inventory again; a definition with problems puts the file back."""
    keys_inventory.write(edit.file, edit.after)
    try:
        inventory = source.load()
        _ = inventory.plan
    except InventoryError as error:
        keys_inventory.write(edit.file, edit.before)
        raise KeyRefused(f"the inventory would be wrong with this change, so it is as before.\n{error}") from error
    return inventory


def bring(inventory: Inventory, hosts: Sequence[Host] | None = None) -> Outcome[Applied]:
    """Every balancer to what the inventory says about keys."""
    # Rendered here, one after the other: Ansible's templating is not made for threads.
    wanted = {name: wanted_for(variables(inventory, name), name) for name in inventory.plan["balancers"]}
    if hosts is None:
        hosts = balancers_of(inventory.plan, inventory.hosts)
    return on_each(hosts, lambda host: apply(host, wanted[host.name]))


def report(outcome: Outcome[Applied]) -> dict[str, dict[str, Any]]:
    """Per balancer, for --json and for people."""
    done = {
        name: {"state": "changed" if one.changed else "as it should be", "waiting": list(one.waiting)}
        for name, one in outcome.done.items()
    }
    failed = {name: {"state": "failed", "reason": str(error)} for name, error in outcome.failed.items()}
    return done | failed
