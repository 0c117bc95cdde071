"""A model's directory and its manifest.

What is there, what is wrong with it, and how it becomes complete in one step.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.rackserve_atomic import (
    canonical,
    digest_of,
    digest_of_file,
    read_json,
    remove_tree,
    write_atomic,
)

# Where hub clients keep their own bookkeeping inside a download.
BOOKKEEPING = ".cache"


@dataclass
class Finding:
    """The state of a model on this node. Only `complete` may be served."""

    state: str  # complete, missing, damaged, unproven
    bad: list[str] = field(default_factory=list)  # files to fetch again, with the reason behind the name
    extra: list[str] = field(default_factory=list)  # files that nobody put there
    touched: list[str] = field(default_factory=list)  # right content, other time: put back without fetching


@dataclass(frozen=True)
class Place:
    """The paths of one revision of one model."""

    root: Path
    model: str
    revision: str

    @property
    def final(self) -> Path:
        return self.root / self.model / self.revision

    @property
    def partial(self) -> Path:
        return self.root / self.model / f".{self.revision}.partial"

    @property
    def manifest(self) -> Path:
        return self.root / self.model / f"{self.revision}.manifest.json"


def files_of(folder: Path) -> list[str]:
    found = []
    for base, folders, files in os.walk(folder):
        relative = Path(base).relative_to(folder)
        if relative == Path("."):
            folders[:] = [name for name in folders if name != BOOKKEEPING]
        found += [str(relative / name) for name in files]
    return sorted(found)


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file with its SHA-256, size and time. Reads every byte."""
    described = {}
    for name in files_of(folder):
        status = (folder / name).stat()
        described[name] = {
            "sha256": digest_of_file(folder / name),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
    return described


def content_digest(manifest: dict[str, Any]) -> str:
    """The same for the same content on every node, whatever the times of the files."""
    digest: str = digest_of({name: entry["sha256"] for name, entry in manifest["files"].items()})
    return digest


def read_manifest(place: Place) -> dict[str, Any] | None:
    """None when it is absent or was tampered with: then nothing proves what the files should be."""
    manifest = read_json(place.manifest)
    if not isinstance(manifest, dict) or "files" not in manifest:
        return None
    return manifest if manifest.get("digest") == content_digest(manifest) else None


def examine(place: Place, full: bool) -> Finding:
    """Fast unless `full`: a file whose size and time are as recorded is taken as it is, any other is read."""
    if not place.final.is_dir():
        return Finding("missing")
    manifest = read_manifest(place)
    if manifest is None:
        return Finding("unproven")
    finding = Finding("complete")
    for name, entry in manifest["files"].items():
        path = place.final / name
        if not path.is_file() or path.is_symlink():
            finding.bad.append(f"{name} (missing)")
            continue
        status = path.stat()
        same = (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"])
        if same and not full:
            continue
        if status.st_size != entry["size"]:
            finding.bad.append(f"{name} ({status.st_size} bytes, should be {entry['size']})")
        elif digest_of_file(path) != entry["sha256"]:
            finding.bad.append(f"{name} (other content)")
        elif not same:
            finding.touched.append(name)
    finding.extra = [name for name in files_of(place.final) if name not in manifest["files"]]
    if finding.bad or finding.extra or finding.touched:
        finding.state = "damaged"
    return finding


def tidy(place: Place, finding: Finding) -> None:
    """What needs no source: put back recorded times, remove what nobody put there."""
    manifest = read_manifest(place) or {"files": {}}
    for name in finding.touched:
        entry = manifest["files"][name]
        os.utime(place.final / name, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    for name in finding.extra:
        (place.final / name).unlink()


def settle(folder: Path) -> None:
    """Readable by the engines, writable by root alone."""
    for base, folders, files in os.walk(folder):
        os.chown(base, 0, 0)
        os.chmod(base, 0o755)
        for name in folders + files:
            os.chown(os.path.join(base, name), 0, 0)
        for name in files:
            os.chmod(os.path.join(base, name), 0o644)


def refused(described: dict[str, Any]) -> str | None:
    """Why this directory cannot be a model, or None."""
    if "config.json" not in described:
        return "it has no config.json"
    if not any(name.endswith((".safetensors", ".bin", ".gguf", ".pt")) for name in described):
        return "it has no weights (*.safetensors, *.bin, *.gguf, *.pt)"
    empty = [name for name, entry in described.items() if name.endswith(".safetensors") and entry["size"] == 0]
    return f"{', '.join(empty)} is empty" if empty else None


def seal(place: Place, source: dict[str, Any]) -> dict[str, Any]:
    """Turns a finished download into the revision: manifest first, then one rename.

    Killed in between, it is done again.
    """
    remove_tree(place.partial / BOOKKEEPING)
    settle(place.partial)
    files = describe(place.partial)
    if reason := refused(files):
        raise ValueError(reason)
    manifest = {
        "model": place.model,
        "revision": place.revision,
        "source": source,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": files,
    }
    manifest["digest"] = content_digest(manifest)
    known = read_manifest(place)
    if known and known["digest"] != manifest["digest"]:
        names = sorted(
            name
            for name in {**files, **known["files"]}
            if files.get(name, {}).get("sha256") != known["files"].get(name, {}).get("sha256")
        )
        raise ValueError(
            f"{', '.join(names)} differs from {place.manifest}, and a revision never changes: give the new content "
            "a revision of its own, or remove "
            "that manifest if it is wrong"
        )
    write_atomic(place.manifest, canonical(manifest), 0o644)
    remove_tree(place.final)
    place.partial.rename(place.final)
    return manifest


def seal_repair(place: Place, names: list[str]) -> list[str]:
    """After files were fetched again: those that still differ from the manifest.

    The others get their recorded time back.
    """
    manifest = read_manifest(place) or {"files": {}}
    still = []
    settle(place.final)
    for name in names:
        entry, path = manifest["files"][name], place.final / name
        if not path.is_file() or digest_of_file(path) != entry["sha256"]:
            still.append(name)
        else:
            os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
    return still
