"""What a rollback needs to know of an inventory, kept from the last time that it was read: nobody should wait for Ansible's
loader while a bad release answers users, and a half-finished edit must not stand in the way."""

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.environment import REPOSITORY
from rackserve.canary.moves.split import Split
from rackserve.fleet.paths import Paths
from rackserve.fleet.ssh import CommandHost

# Whose text decides, beside the inventory, how a balancer is reached and where things lie on it.
_CODE = ("roles/haproxy/defaults/main.yml", "scripts/rackserve/fleet/paths.py", "scripts/rackserve/fleet/ssh.py")
# What makes a variable's value depend on more than the inventory's own text.
_OUTSIDE = (b"lookup(", b"query(", b"q(")


class NoCard(Exception):
    """The inventory cannot be read, and never was."""


class Balancer(BaseModel):
    """How it is reached, as fleet.ssh does it, and where things lie on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    address: str
    command: tuple[str, ...]
    paths: dict[str, str | tuple[str, ...]]


class Card(BaseModel):
    """`pools`: their engines. `read_at`: seconds since 1970. `digest`: of what it was made from; empty: it must not be trusted
    to be the same next time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    read_at: float
    pools: dict[str, tuple[str, ...]]
    balancers: tuple[Balancer, ...]

    def split(self, pool: str) -> Split:
        hosts = [CommandHost(one.name, one.address, one.command) for one in self.balancers]
        paths = {one.name: Paths(**one.paths) for one in self.balancers}  # type: ignore[arg-type]
        return Split(pool, self.pools[pool], hosts, paths)


def folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rackserve"


def card_of(
    inventory: Path, vault_ids: Iterable[str] = (), vault_files: Iterable[Path] = (), where: Path | None = None
) -> tuple[Card, str]:
    """The kept one where nothing has changed since, else a new one, which is kept. With a note for people when the inventory
    cannot be read and what it said before is used. Raises NoCard."""
    path = card_path(inventory, where or folder())
    digest, kept = digest_of(inventory), _kept(path)
    if kept is not None and digest and kept.digest == digest:
        return kept, ""
    try:
        card = _read(inventory, digest, list(vault_ids), [str(file) for file in vault_files])
    except NoCard as error:
        if kept is None:
            raise
        then = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(kept.read_at))
        return kept, f"the inventory cannot be read now; going by what it said at {then}. ({error})"
    keep(card, path)
    return card, ""


def digest_of(inventory: Path) -> str:
    """Of all that decides what the card says; empty where that is more than text: a program, or a lookup."""
    root = inventory if inventory.is_dir() else inventory.parent
    found = hashlib.sha256()
    for name in _CODE:
        found.update((REPOSITORY / name).read_bytes())
    for path in _files(root):
        try:
            text = path.read_bytes()
        except OSError:
            return ""
        if (os.access(path, os.X_OK) and text.startswith(b"#!")) or any(word in text for word in _OUTSIDE):
            return ""
        found.update(f"{path.relative_to(root)}\0{len(text)}\0".encode())
        found.update(text)
    return found.hexdigest()


def _files(root: Path) -> list[Path]:
    """Linked directories too: inventories share them. Each once, should links lead in a circle."""
    found, known = [], set()
    for folder, below, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in known:
            below.clear()
            continue
        known.add(real)
        found += [Path(folder) / name for name in names]
    return sorted(found)


def keep(card: Card, path: Path) -> None:
    """Where that is possible: the next rollback is only slower without."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(card.model_dump_json())
        beside.replace(path)
    except OSError:
        return


def card_path(inventory: Path, where: Path) -> Path:
    """Where its card is kept, below `where`."""
    name = hashlib.sha256(str(inventory.absolute()).encode()).hexdigest()[:16]
    return where / f"balancers-{name}.json"


def _kept(path: Path) -> Card | None:
    try:
        return Card.model_validate_json(path.read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        # Only a shortcut. Whatever is wrong with it, the inventory says it anew.
        return None


def _read(inventory: Path, digest: str, vault_ids: list[str], vault_files: list[str]) -> Card:
    """Raises NoCard. Imports late: this is what takes the time."""
    try:
        from rackserve.definition.load import InventoryError, load_inventory
        from rackserve.fleet.drain.fleet import fleet_of
        from rackserve.fleet.haproxy_files import RenderError
    except ImportError as error:
        raise NoCard(f"Ansible cannot be loaded: {error}") from error
    try:
        fleet = fleet_of(load_inventory(inventory, vault_ids, vault_files))
    except (InventoryError, RenderError) as error:
        raise NoCard(str(error)) from error
    pools = {
        name: tuple(one.name for one in fleet.engines.values() if one.pool == name) for name in fleet.plan["pools"]
    }
    balancers = [
        Balancer(name=host.name, address=host.address, command=host.command, paths=asdict(fleet.paths[host.name]))
        for host in fleet.balancers
        if isinstance(host, CommandHost)
    ]
    return Card(digest=digest, read_at=time.time(), pools=pools, balancers=tuple(balancers))
