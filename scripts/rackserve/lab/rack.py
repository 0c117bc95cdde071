"""The lab as a whole: bring a set of nodes up, take it down, say how it stands."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rackserve.lab import bases, cgroups, disks, host, inherit, network, nodes, state
from rackserve.lab.errors import LabError, RefusedError
from rackserve.lab.inventory import NodeSpec
from rackserve.lab.settings import Settings

Say = Callable[[str], None]
T = TypeVar("T")
R = TypeVar("R")
BOOTING_SECONDS = 10.0


@dataclass(frozen=True)
class UpPlan:
    """What `up` would do: nodes to make, nodes to boot (those included), whether the network is to be made."""

    create: tuple[NodeSpec, ...]
    boot: tuple[NodeSpec, ...]
    network: bool

    @property
    def nothing(self) -> bool:
        return not (self.create or self.boot or self.network)


def _in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call function for each item at the same time; every call ends before the first error is raised."""
    if not items:
        return []
    with ThreadPoolExecutor(len(items)) as pool:
        jobs = [pool.submit(function, item) for item in items]
    errors = [error for job in jobs if (error := job.exception())]
    if len(errors) > 1 and all(isinstance(error, LabError) for error in errors):
        raise LabError(" ".join(str(error) for error in errors))
    return [job.result() for job in jobs]


def _check_against(records: dict[str, state.NodeRecord], specs: Sequence[NodeSpec]) -> None:
    """Refuse what would need another node to be changed or shadowed."""
    for spec in specs:
        existing = records.get(spec.name)
        if existing and existing.spec != spec:
            raise RefusedError(
                f"node {spec.name} exists as {_describe(existing.spec)} (from {existing.inventory}) and the inventory "
                f"wants {_describe(spec)}. Remove the node first: scripts/lab down {spec.name}."
            )
        for record in records.values():
            if record.spec.name != spec.name and record.spec.address == spec.address:
                raise RefusedError(
                    f"address {spec.address} of {spec.name} is taken by node {record.spec.name} (from "
                    f"{record.inventory}). Give it another ansible_host, or remove the other: "
                    f"scripts/lab down {record.spec.name}."
                )


def _describe(spec: NodeSpec) -> str:
    return f"{spec.os}, {spec.disk_gib} GiB, {spec.address}"


def plan_up(settings: Settings, specs: Sequence[NodeSpec]) -> UpPlan:
    records = state.load_records(settings)
    _check_against(records, specs)
    create = [spec for spec in specs if spec.name not in records]
    running = _in_parallel(lambda spec: nodes.is_running(settings, spec.name) and nodes.answers(spec.address), specs)
    boot = [spec for spec, runs in zip(specs, running, strict=True) if not runs]
    return UpPlan(tuple(create), tuple(boot), not network.is_up(settings))


def _recipes(systems: Iterable[str]) -> list[bases.Recipe]:
    mirrors = inherit.debian_mirrors(inherit.apt_source_texts())
    certificates, proxies = inherit.extra_certificates(), inherit.proxy_environment()
    return [bases.Recipe(system, mirrors, certificates, proxies) for system in sorted(set(systems))]


def _package_indexes() -> inherit.PackageIndexes:
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode:
        raise LabError(
            f"`{' '.join(command)}` failed: {listed.stderr.strip().splitlines()[-1:]}. Run scripts/bootstrap."
        )
    return inherit.package_indexes(listed.stdout)


def up(settings: Settings, specs: Sequence[NodeSpec], inventory: str, say: Say) -> UpPlan:
    """Bring the nodes up. What runs already is left alone; what a killed run left is taken over."""
    plan = plan_up(settings, specs)
    if plan.nothing:
        return plan
    host.check()
    network.check_clash(settings)
    recipes = _recipes(spec.os for spec in plan.create)
    bases.check(recipes)
    lacking = bases.missing(settings.cache, recipes)
    host.check_space(settings, new_bases_gib=len(lacking) * bases.BASE_GIB, new_nodes=len(plan.create))
    resolv_conf = inherit.resolv_conf()
    with state.exclusive(settings.state, say):
        # Another `up` may have worked while we waited.
        plan = plan_up(settings, specs)
        network.check_clash(settings)
        if plan.create:
            with state.exclusive(settings.cache, say):
                standing = {record.base for record in state.load_records(settings).values()}
                bases.ensure(settings.cache, recipes, standing, say)
        _bring_up(settings, plan, recipes, inventory, resolv_conf, say)
    return plan


def _bring_up(
    settings: Settings, plan: UpPlan, recipes: Sequence[bases.Recipe], inventory: str, resolv_conf: str, say: Say
) -> None:
    network.up(settings)
    (settings.state / "nodes").mkdir(mode=0o700, exist_ok=True)
    nodes.ensure_ssh_key(settings)
    records = state.load_records(settings)
    for system in {spec.os for spec in plan.create}:
        for record in records.values():
            if record.spec.os == system:
                disks.harvest(settings, record.spec.name, bases.archives_of(settings.cache, system))
    indexes = _package_indexes()
    known = {record.spec.name: record.spec.address for record in records.values()}
    known |= {spec.name: spec.address for spec in plan.create}
    surroundings = nodes.Surroundings(
        known, resolv_conf, indexes, inherit.proxy_environment(), network.mtu_of(network.default_interface())
    )
    base = {recipe.os: bases.path_of(settings.cache, recipe) for recipe in recipes}

    def make(spec: NodeSpec) -> None:
        # Without a record it is the rest of a killed run: of unknown completeness, so made anew.
        nodes.remove(settings, spec.name, None)
        nodes.create(settings, spec, base[spec.os], inventory, surroundings)

    _in_parallel(make, plan.create)
    state.write_known_hosts(settings)
    records = state.load_records(settings)

    def boot(spec: NodeSpec) -> None:
        if nodes.is_running(settings, spec.name):
            # Perhaps the `up` that started it was killed a second ago.
            try:
                nodes.wait_for_login(settings, spec, BOOTING_SECONDS)
            except LabError:
                say(f"{spec.name}: runs, but nobody can log in. Powering it off and on.")
            else:
                return
        nodes.stop(settings, spec.name, grace_seconds=0)
        nodes.start(settings, records[spec.name], indexes.bound)
        waited = nodes.wait_for_login(settings, spec)
        say(f"{spec.name}: up at {spec.address} after {waited:.1f} s ({spec.os})")

    _in_parallel(boot, plan.boot)


def all_nodes(settings: Settings) -> set[str]:
    """Everything that could be a node: records, directories, control groups."""
    return state.node_directories(settings) | cgroups.grouped_nodes(settings)


def plan_down(settings: Settings, names: Sequence[str] | None) -> list[str]:
    """What `down` would remove, in words."""
    present = all_nodes(settings)
    doomed = present if names is None else present & set(names)
    plan = [f"node {name}" for name in sorted(doomed)]
    if present == doomed:
        plan += network.leftovers(settings)
    if names is None and settings.state.exists():
        plan.append(str(settings.state))
    return plan


def down(settings: Settings, names: Sequence[str] | None, say: Say) -> list[str]:
    """Remove nodes; None: all of them and every trace of the lab but its caches. Returns what was removed."""
    everything = names is None
    if bases.has_unfinished(settings.cache):
        with state.exclusive(settings.cache, say):
            bases.remove_unfinished(settings.cache)
    if not settings.state.exists() and not cgroups.grouped_nodes(settings) and not network.leftovers(settings):
        return []
    with state.exclusive(settings.state, say):
        present = all_nodes(settings)
        wanted = sorted(present if names is None else present & set(names))
        systems = _systems(settings)

        def remove(name: str) -> None:
            nodes.remove(settings, name, systems.get(name))
            say(f"{name}: removed")

        _in_parallel(remove, wanted)
        removed = [f"node {name}" for name in wanted]
        if not all_nodes(settings):
            removed += network.leftovers(settings)
            network.down(settings)
            cgroups.remove_lab(settings)
            nodes.forget_nspawn_directories()
        elif (settings.state / "ssh").is_dir():
            state.write_known_hosts(settings)
        if everything:
            state.remove_tree(settings.state)
            removed.append(str(settings.state))
    return removed


def _systems(settings: Settings) -> dict[str, str]:
    """Distribution of each node. A damaged record must not keep `down` from working: then nothing is harvested."""
    try:
        return {name: record.spec.os for name, record in state.load_records(settings).items()}
    except LabError:
        return {}


def drop_caches(settings: Settings, say: Say) -> bool:
    """Remove base images, package archives and the uv cache, unless a lab of this machine stands on them."""
    if not settings.cache.exists():
        return False
    with state.exclusive(settings.cache, say):
        own = (settings.cache / "bases").resolve()
        used = [layer for layer in disks.lower_layers_in_use() if Path(layer).is_relative_to(own)]
        if used:
            raise RefusedError(
                f"the caches in {settings.cache} stay: nodes of a lab stand on {used[0]}. Take that lab down first."
            )
        shutil.rmtree(settings.cache)
    return True


def status(settings: Settings) -> list[dict[str, Any]]:
    """One entry per node, as the machine has it now."""
    records = state.load_records(settings)

    def one(name: str) -> dict[str, Any]:
        record, found = records.get(name), cgroups.processes(settings, name)
        entry: dict[str, Any] = {"name": name, "state": "stopped", "system": None, "ssh": False, "interface": None}
        if record is None:
            entry["state"] = "unfinished"
        else:
            entry |= {"address": record.spec.address, "os": record.spec.os, "disk_gib": record.spec.disk_gib}
            entry["inventory"] = record.inventory
            entry["ssh"] = nodes.answers(record.spec.address)
        if found.leader and found.supervisor:
            entry |= {"state": "running", "pid": found.leader, "interface": network.host_interface(found.leader)}
            asked = subprocess.run(
                nodes.inside(found.leader, "systemctl", "is-system-running"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            entry["system"] = asked.stdout.strip() or "does not answer"
        elif found.everything:
            entry["state"] = "leftover processes"
        entry["used_mib"] = disks.used_mib(settings, name)
        return entry

    return _in_parallel(one, sorted(all_nodes(settings)))


def make_models(settings: Settings, say: Say) -> list[str]:
    """Make the tiny models that are missing or damaged; return their names."""
    # Imported here: numpy and tokenizers come with the lab's own libraries, which a controller of real servers lacks.
    from rackserve.lab import models

    made = []
    with state.exclusive(settings.state, say):
        for name in models.SIZES:
            directory = settings.state / "models" / name
            if models.ensure(directory, name):
                made.append(name)
            say(f"model {name}: {'made' if name in made else 'intact'} ({directory})")
    return made
