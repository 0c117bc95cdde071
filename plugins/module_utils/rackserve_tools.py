"""Small Python tools on a node, each in its own directory, installed by hash with the pip that comes with Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible.module_utils.rackserve_atomic import canonical, digest_of, remove_tree, write_atomic

COMPLETE = "rackserve-environment.json"


class CannotInstall(Exception):
    """What was attempted, what came back, what to do."""


def package_environment(index_url: str = "", find_links: list[str] | None = None) -> dict[str, str]:
    """What pip and uv see: the node's configuration, the way out of the network, what the role says."""
    found = {"PATH": os.environ["PATH"], "HOME": "/root", "LC_ALL": "C.UTF-8"}
    passed = ("SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    found |= {name: os.environ[name] for name in passed if name in os.environ}
    if index_url:
        found |= {"UV_DEFAULT_INDEX": index_url, "PIP_INDEX_URL": index_url}
    if find_links:
        found |= {"UV_FIND_LINKS": ",".join(find_links), "PIP_FIND_LINKS": " ".join(find_links)}
    return found


def last_lines(result: subprocess.CompletedProcess[str], count: int = 12) -> str:
    return "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-count:])


def tool_path(root: Path, name: str, lock: str) -> Path:
    return root / f"{name}-{digest_of(lock)[:8]}"


def installed(path: Path) -> bool:
    return (path / COMPLETE).exists() and (path / "bin" / "python").exists()


def install(root: Path, name: str, lock: str, python: str, environment: dict[str, str]) -> Path:
    """The mark is written last, so what a killed run left is installed again."""
    target = tool_path(root, name, lock)
    if installed(target):
        return target
    remove_tree(target)
    root.mkdir(parents=True, exist_ok=True)
    file = root / f".{target.name}.txt"
    write_atomic(file, lock, 0o644)
    pip = [str(target / "bin" / "pip"), "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    for command in ([python, "-m", "venv", str(target)], [*pip, "-r", str(file)]):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, umask=0o022, check=False)
        if result.returncode:
            raise CannotInstall(
                f"{name} could not be installed: `{' '.join(command)}` says: {last_lines(result)}. "
                "Check that the node reaches its package index (pip config list)"
            )
    file.unlink()
    write_atomic(target / COMPLETE, canonical({"lock": digest_of(lock)}), 0o644)
    return target
