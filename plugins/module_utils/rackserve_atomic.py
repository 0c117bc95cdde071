"""Files on a node: written whole or not at all, compared before they are written. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

CHUNK = 4 * 1024 * 1024


def canonical(data: Any) -> str:
    """The same data gives the same text, whatever the order of keys."""
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def digest_of(data: Any) -> str:
    text = data if isinstance(data, str) else canonical(data)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def read_text(path: Path) -> str | None:
    """None when there is no such file: absent and unreadable are different things."""
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> Any:
    """None when absent or not JSON. For files of ours that can be made again; never for a journal."""
    text = read_text(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


def same_file(path: Path, text: str, mode: int, gid: int = 0) -> bool:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    right = (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (mode, 0, gid)
    return right and not path.is_symlink() and read_text(path) == text


def write_atomic(path: Path, text: str, mode: int, gid: int = 0) -> None:
    """Readers see the old file or the new one; after a crash too."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), 0, gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def switch_link(path: Path, target: str) -> None:
    """Points to the new target in one step: there is no moment without a target."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    beside = path.parent / f".{path.name}.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def tree_stamp(root: Path) -> str:
    """A digest over names, sizes and times below a directory: cheap, and it changes when a file does.

    Bytecode is left out.
    """
    found = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found.update(f"{os.path.relpath(path, root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def model_stamp(path: Path) -> str:
    """Which files an engine loads.

    The launcher (roles/vllm/files/engine.py) notes the same at each start: change both.
    """
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            status = file.stat()
            found.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def remove_tree(path: Path) -> None:
    """Renames first, so that nothing half removed keeps a name that somebody trusts."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        gone = path.parent / f".{path.name}.removed"
        if gone.exists():
            shutil.rmtree(gone)
        path.rename(gone)
        shutil.rmtree(gone)
