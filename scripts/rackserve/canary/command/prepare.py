"""From what an operator asks for to a plan and the world in which it is carried out."""

import os
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rackserve.canary.command.load import Load, load_of
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.read import read
from rackserve.canary.run.journal import JournalError, write_whole
from rackserve.canary.run.plan import Plan, Wish, plan_of
from rackserve.canary.world.promises import limits
from rackserve.canary.world.site import Access, Site, Unknown, known, site_of
from rackserve.definition.load import Inventory, load_inventory

ACCESS = "access.json"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    inventory: Path
    vault_ids: tuple[str, ...]
    vault_files: tuple[Path, ...]


@dataclass(frozen=True)
class Asked:
    """`engine` None: the pool's last. `peak`: requests at a time, where no monitor is to be asked."""

    pool: str
    release: str
    by: str
    engine: str | None = None
    trial: bool = False
    peak: float | None = None


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, before anything was changed."""

    plan: Plan
    site: Site
    reference: Reference
    load: Load


def runs_folder() -> Path:
    """Where runs are kept on the operator's machine, unless they say otherwise."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "rackserve" / "canary"


def lock_of(root: Path, pool: str) -> Path:
    return root / pool / "playbook.lock"


def new_run(now: float, chance: str | None = None) -> str:
    """Ids begin with the time, so that they sort by it."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{chance or secrets.token_hex(2)}"


def opened(access: Access) -> Inventory:
    """Raises InventoryError."""
    return load_inventory(access.inventory, access.vault_ids, [str(file) for file in access.vault_files])


def prepared(asked: Asked, access: Access, root: Path) -> Prepared:
    """Asks only monitors. Raises InventoryError, Unknown, Refused, PromptsError, NotKnown."""
    inventory = opened(access)
    definition = inventory.plan
    known(definition["pools"], asked.pool, "pool")
    known(definition["releases"], asked.release, "release")
    site = site_of(inventory, asked.pool, access, lock_of(root, asked.pool))
    engines = tuple(site.split.engines)
    before = str(definition["pools"][asked.pool]["release"])
    if asked.release == before and not asked.trial:
        raise Unknown(
            f"{asked.release} is what the definition has pool {asked.pool} run already. Name another release of service_releases, "
            "or try A against A with --trial"
        )
    now = time.time()
    wish = Wish(
        run=new_run(now),
        pool=asked.pool,
        release=asked.release,
        before=before,
        by=asked.by,
        since=now,
        engines=engines,
        nodes={name: site.fleet.engines[name].node for name in engines},
        fewest=1,
        canary=asked.engine,
        limits=limits(definition, asked.pool),
        same_model=_model(site, asked.release) == _model(site, before),
        trial=asked.trial,
    )
    # What cannot be with any load is refused before anybody is asked.
    plan_of(wish, site.canary)
    load = load_of(site.fleet, asked.pool, asked.peak)
    slots = min(site.fleet.engines[name].slots for name in engines)
    plan = plan_of(replace(wish, fewest=load.fewest(slots)), site.canary)
    return Prepared(plan, site, read(site.canary.quality.prompts), load)


def _model(site: Site, release: str) -> tuple[str, str]:
    found = site.release(release)
    return str(found["model"]), str(found["model_revision"])


def keep_access(directory: Path, access: Access) -> None:
    """So that whoever takes the run up does not have to know. Raises JournalError."""
    kept = _Kept(
        inventory=access.inventory.absolute(), vault_ids=access.vault_ids, vault_files=access.vault_files
    ).model_dump_json()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / ACCESS, kept.encode())
    except OSError as error:
        raise JournalError(f"{directory / ACCESS} cannot be written ({error.strerror or error})") from error


def kept_access(directory: Path) -> Access | None:
    """None: it was not kept, or cannot be read."""
    try:
        found = _Kept.model_validate_json((directory / ACCESS).read_bytes())
    except (OSError, ValueError):
        return None
    return Access(found.inventory, found.vault_ids, found.vault_files)


def again(plan: Plan, access: Access, root: Path) -> tuple[Site, Reference]:
    """For a run that was begun. Raises InventoryError, Unknown, PromptsError."""
    site = site_of(opened(access), plan.pool, access, lock_of(root, plan.pool))
    for name in (plan.release, plan.before):
        known(site.plan["releases"], name, "release")
    if gone := [name for name in plan.engines if name not in site.split.engines]:
        raise Unknown(
            f"run {plan.run} is about engines that the definition has no more: {', '.join(gone)}. Put them back, or take the share "
            f"back with scripts/rollback {plan.pool}"
        )
    return site, read(site.canary.quality.prompts)
