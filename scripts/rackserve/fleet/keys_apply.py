"""Makes the running balancers agree with the inventory about keys, without a reload, and their files with that.

What hangs on a key is found by rendering with and without keys, so a new map needs no word here. The order within a
balancer: what revokes acts first, then what a key needs to be useful, then the key itself, then what nobody needs any
more. Then the process says that it runs the new configuration, and last the files follow, as a candidate with the same
digest: site.yml finds nothing to do. Killed at any point, the next run goes on.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rackserve.fleet.errors import RefusedError
from rackserve.fleet.haproxy_files import Candidate, render
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import Host

KEYS_MAP = "maps/keys.map"
CONFIGURATION_MAP = "maps/configuration.map"
# More changed entries than this and the map is sent as a whole.
_FEW = 20


@dataclass(frozen=True)
class Applied:
    """What was changed on one balancer. `waiting`: other edits of the inventory, which need site.yml."""

    entries: int
    files: tuple[str, ...]
    waiting: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return bool(self.entries or self.files)


@dataclass(frozen=True)
class Wanted:
    """One balancer's files as the inventory wants them, and which of them hang on keys."""

    candidate: Candidate
    hanging: tuple[str, ...]
    directory: str
    socket: str
    keep: int

    def text(self, path: str) -> str:
        return self.candidate.text(path)


def wanted_for(variables: Mapping[str, Any], node: str) -> Wanted:
    candidate = render(variables, node)
    bare = render({**variables, "haproxy_plan": _keyless(variables["haproxy_plan"])}, node)
    without = {file.path: file.text for file in bare.files}
    hanging = [
        file.path
        for file in candidate.files
        if file.path.startswith("maps/") and file.path != CONFIGURATION_MAP and without.get(file.path) != file.text
    ]
    return Wanted(
        candidate,
        tuple(dict.fromkeys([KEYS_MAP, *hanging])),
        str(variables["haproxy_config_directory"]),
        f"{variables['haproxy_runtime_directory']}/admin.sock",
        int(variables["haproxy_keep_candidates"]),
    )


def _keyless(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as if no tenant had a key: none in the tenants, and nothing that is filed under TENANT/KEY."""
    names = {f"{name}/{key['id']}" for name, tenant in plan["tenants"].items() for key in tenant["keys"]}
    tenants = {name: {**tenant, "keys": [], "key_hashes": []} for name, tenant in plan["tenants"].items()}
    others = {
        part: {name: one for name, one in value.items() if name not in names} if isinstance(value, Mapping) else value
        for part, value in plan.items()
    }
    return {**others, "tenants": tenants}


def apply(host: Host, wanted: Wanted, deadline_seconds: float = 30) -> Applied:
    """Raises a FleetError when the balancer cannot be asked or does not do it."""
    runtime = Runtime(host, wanted.socket, deadline_seconds)
    disk = host.call("haproxy_files", {"directory": wanted.directory}, deadline_seconds)
    on_disk: dict[str, str] = disk["files"]
    texts = {file.path: file.text for file in wanted.candidate.files}
    kept = {file.path for file in wanted.candidate.files if file.kept}
    differing = {path for path in {*texts, *on_disk} - kept if _digest(texts.get(path)) != on_disk.get(path)}
    waiting = sorted(differing - set(wanted.hanging) - {CONFIGURATION_MAP})
    disk_digest = str(disk["candidate"]).split("-")[1]
    running = _running_digest(runtime)
    # Only a process that runs what lies on disk becomes, by its maps alone, one that runs the new configuration.
    becomes = not waiting and running in (disk_digest, wanted.candidate.digest)

    entries = _apply_entries(runtime, wanted)
    if becomes and running != wanted.candidate.digest:
        runtime.put_entry(CONFIGURATION_MAP, "digest", wanted.candidate.digest)
    follow = {path for path in differing & set(wanted.hanging) if path in on_disk}
    if becomes:
        follow |= differing & {CONFIGURATION_MAP}
    if follow:
        asked = {
            "directory": wanted.directory,
            "maps": {path: texts[path] for path in sorted(follow)},
            "digest": wanted.candidate.digest if becomes else disk_digest,
            "check": ["haproxy", "-c", "-f"],
            "keep": wanted.keep,
        }
        host.call("haproxy_files", asked, deadline_seconds)
    return Applied(entries, tuple(sorted(follow)), tuple(waiting))


def _running_digest(runtime: Runtime) -> str | None:
    try:
        return runtime.entry(CONFIGURATION_MAP, "digest")
    except RefusedError:
        # A process from before this map: it cannot say, so site.yml has to reload it.
        return None


def _apply_entries(runtime: Runtime, wanted: Wanted) -> int:
    """Returns how many entries were changed in the running process."""
    drops: dict[str, list[str]] = {}
    puts: dict[str, dict[str, str]] = {}
    whole: dict[str, dict[str, str]] = {}
    for path in wanted.hanging:
        want = entries_of(wanted.text(path))
        have = runtime.entries(path)
        drops[path] = [key for key in have if key not in want]
        puts[path] = {key: value for key, value in want.items() if have.get(key) != value}
        if len(drops[path]) + len(puts[path]) > _FEW or any(not _simple(value) for value in puts[path].values()):
            whole[path] = want
    others = [path for path in wanted.hanging if path != KEYS_MAP]
    for key in drops[KEYS_MAP]:
        runtime.drop_entry(KEYS_MAP, key)
    for path in [*others, KEYS_MAP]:
        if path in whole:
            runtime.replace_entries(path, whole[path])
        for key, value in () if path in whole else puts[path].items():
            runtime.put_entry(path, key, value)
    for path in others:
        for key in () if path in whole else drops[path]:
            runtime.drop_entry(path, key)
    return sum(len(drops[path]) + len(puts[path]) for path in wanted.hanging)


def entries_of(text: str) -> dict[str, str]:
    """A map file: KEY VALUE per line, as HAProxy reads it."""
    return {key: value.strip() for key, _, value in (line.partition(" ") for line in text.splitlines() if line)}


def _simple(value: str) -> bool:
    """Can be sent as one word of a command."""
    return value.isascii() and value.isprintable() and not set(value) & set(" ;\\\"'")


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
