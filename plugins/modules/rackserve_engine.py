#!/usr/bin/python
"""Engines as systemd units.

Settings, the pointer to the release, and a start that counts only when a token came back.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_engine
short_description: Run engines on the releases that the definition names
description:
  - Writes the units, settings and key of this node's engines, switches each engine's pointer to its release in one
    step, and starts or restarts what runs with something else than what is wanted, one engine after the other.
  - What an engine was started with is read from the engine itself, so a run that was killed between the switch and the
    restart is finished by the next one. An engine that runs with all that is wanted is left alone.
  - An engine that answered before and does not start on the new release is put back on the old one; the task fails
    with the cause from the engine's own log and says which release answers.
options:
  root:
    description: The bundle's directory on the node.
    type: path
    required: true
  user:
    description: The user that the engines run as.
    type: str
    required: true
  key:
    description: The API key that the engines ask for.
    type: str
    required: true
  unit:
    description: The text of C(vllm@.service).
    type: str
    required: true
  launcher:
    description: The text of the program that the unit calls.
    type: str
    required: true
  start_timeout_seconds:
    description: How long an engine may take until its first token.
    type: int
    required: true
  environment:
    description: Environment variables of all engines.
    type: dict
    default: {}
  engines:
    description: This node's engines.
    type: list
    elements: dict
    required: true
  arguments:
    description: Per engine the words of its command line, as M(rackserve_release) returns them.
    type: dict
    required: true
  digests:
    description: Per release its digest, as M(rackserve_release) returns it.
    type: dict
    required: true
  restart:
    description: Whether engines that answer are restarted when they run with something else. If not, they are returned
      as C(pending).
    type: bool
    default: true
  remove:
    description: Whether engines that are not listed are stopped and removed. If not, they are returned as C(extra).
    type: bool
    default: false
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Start what does not run yet
  rackserve_engine:
    root: /opt/rackserve
    user: vllm
    key: "{{ vllm_engine_key }}"
    unit: "{{ lookup('ansible.builtin.template', 'vllm@.service.j2') }}"
    launcher: "{{ lookup('ansible.builtin.file', 'engine.py') }}"
    start_timeout_seconds: 900
    engines: "{{ vllm_engines }}"
    arguments: "{{ __vllm_releases.engine_arguments }}"
    digests: "{{ __vllm_releases.digests }}"
    restart: false
"""

RETURN = r"""
engines:
  description: Per engine its release and what was done (C(kept), C(started), C(restarted), C(pending)).
  returned: always
  type: dict
pending:
  description: Engines that answer with something else than what is wanted and were not restarted.
  returned: always
  type: list
extra:
  description: Engines on this node that are not listed.
  returned: always
  type: list
"""

import pwd  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_arguments import engine_environment  # noqa: E402
from ansible.module_utils.rackserve_atomic import (  # noqa: E402
    canonical,
    digest_of,
    model_stamp,
    read_json,
    read_link,
    read_text,
    remove_tree,
    same_file,
    switch_link,
    write_atomic,
)
from ansible.module_utils.rackserve_engine_unit import (  # noqa: E402
    UnitProblem,
    active_state,
    placement,
    systemctl,
    verify,
    without_comments,
)

UNITS = Path("/etc/systemd/system")
KEY_FILE = Path("/etc/rackserve/vllm.env")
# How many of the releases that an engine answered with are remembered, for going back and for pruning.
HISTORY = 10


class Failed(Exception):
    """An engine that does not answer, with its cause and the state that is left."""


class Engines:
    def __init__(self, module: AnsibleModule) -> None:
        self.p = module.params
        self.check = module.check_mode
        self.root = Path(self.p["root"])
        self.gid = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_name == self.p["user"]), 0)
        self.diff: list[dict[str, str]] = []
        self.changed = False
        self.reload = False
        # What stood before, with mode and group: an engine that does not start gets it back.
        self.before: dict[Path, tuple[str | None, int, int]] = {}
        self.at_work = ""

    def folder(self, name: str) -> Path:
        return self.root / "engines" / name

    def settings_of(self, engine: dict[str, Any]) -> str:
        text: str = canonical(
            {
                "engine": engine["name"],
                "port": engine["port"],
                "served_names": engine["served_names"],
                "arguments": self.p["arguments"][engine["name"]],
                "common_environment": {key: str(value) for key, value in self.p["environment"].items()},
                "environment": engine_environment(engine),
                "start_timeout_seconds": self.p["start_timeout_seconds"],
            }
        )
        return text

    def drop_in_of(self, engine: dict[str, Any]) -> tuple[str, str]:
        """The engine's part of the unit, and the digest over all that only a restart brings into effect."""
        lines = placement(engine)
        key = digest_of(f"rackserve engine key {self.p['key']}")
        settings = digest_of([without_comments(self.p["unit"]), lines, key])[:32]
        text = (
            "# Managed by Ansible.\n[Service]\n"
            + "\n".join([*lines, f"Environment=RACKSERVE_SETTINGS={settings}"])
            + "\n"
        )
        return text, settings

    def write(self, path: Path, text: str, mode: int, gid: int = 0, secret: bool = False) -> bool:
        if same_file(path, text, mode, gid):
            return False
        old = read_text(path)
        shown = ("(secret)\n" if old else "", "(secret, changed)\n") if secret else (old or "", text)
        self.diff.append({"before_header": str(path), "after_header": str(path), "before": shown[0], "after": shown[1]})
        self.changed = True
        self.before.setdefault(path, (old, mode, gid))
        if not self.check:
            write_atomic(path, text, mode, gid)
        return True

    def write_shared(self) -> None:
        self.write(self.root / "tools" / "engine", self.p["launcher"], 0o755)
        self.reload |= self.write(UNITS / "vllm@.service", self.p["unit"], 0o644)
        # Root only: systemd reads it for the unit; it is in no command line.
        self.write(KEY_FILE, f"VLLM_API_KEY={self.p['key']}\n", 0o600, secret=True)

    def write_engine(self, engine: dict[str, Any], drop_in: str) -> None:
        name = engine["name"]
        self.write(self.folder(name) / "engine.json", self.settings_of(engine), 0o640, self.gid)
        self.reload |= self.write(UNITS / f"vllm@{name}.service.d" / "rackserve.conf", drop_in, 0o644)
        target = f"../../releases/{engine['release']}"
        pointer = self.folder(name) / "current"
        if read_link(pointer) != target:
            old = read_link(pointer) or "(none)"
            self.diff.append(
                {
                    "before_header": str(pointer),
                    "after_header": str(pointer),
                    "before": f"{old}\n",
                    "after": f"{target}\n",
                }
            )
            self.changed = True
            if not self.check:
                switch_link(pointer, target)

    def wanted_start(self, engine: dict[str, Any], settings: str) -> dict[str, str]:
        release = read_json(self.root / "releases" / engine["release"] / "release.json") or {}
        return {
            "release": engine["release"],
            "digest": self.p["digests"][engine["release"]],
            "engine": digest_of(self.settings_of(engine)),
            "settings": settings,
            "model": model_stamp(Path(release["model_path"])) if release else "",
        }

    def answered(self, engine: dict[str, Any]) -> None:
        path = self.folder(engine["name"]) / "history.json"
        history = [entry for entry in read_json(path) or [] if entry["release"] != engine["release"]]
        history.append({"release": engine["release"], "answered": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        write_atomic(path, canonical(history[-HISTORY:]), 0o644)

    def why(self, name: str) -> str:
        command = ["/usr/bin/python3", "-I", str(self.root / "tools" / "engine"), "why", name]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() or found.stderr.strip()

    def start(self, name: str, verb: str = "restart") -> bool:
        """Waits until a token came back. A start that failed is not tried again behind our back."""
        unit = f"vllm@{name}.service"
        # A unit that failed too often refuses even a start that would work now.
        systemctl("reset-failed", unit)
        if systemctl(verb, unit).returncode == 0:
            return True
        systemctl("stop", unit)
        return False

    def bring_up(self, engine: dict[str, Any], was_active: bool, verb: str, old_release: str | None) -> None:
        name = engine["name"]
        if self.start(name, verb):
            self.answered(engine)
            return
        said = f"engine {name} does not answer with release {engine['release']}:\n{self.why(name)}\n"
        if not was_active or not old_release:
            raise Failed(
                f"{said}It did not answer before either, so nothing was put back; vllm@{name}.service is stopped."
            )
        for path, (text, mode, gid) in self.before.items():
            if text is not None and path != KEY_FILE:
                write_atomic(path, text, mode, gid)
        switch_link(self.folder(name) / "current", f"../../releases/{old_release}")
        systemctl("daemon-reload")
        if self.start(name):
            raise Failed(f"{said}Release {old_release} was put back and answers again.")
        raise Failed(f"{said}Release {old_release} was put back and does not answer either:\n{self.why(name)}")

    def ensure(self, engine: dict[str, Any], drop_in: str, settings: str) -> str:
        name = engine["name"]
        unit = f"vllm@{name}.service"
        state = active_state(unit)
        started = read_json(Path("/run/rackserve") / name / "started.json") or {}
        wanted = self.wanted_start(engine, settings)
        answers = state == "active"
        right = started == wanted
        if answers and not right and not self.p["restart"]:
            return "pending"
        self.write_engine(engine, drop_in)
        if self.reload and not self.check:
            systemctl("daemon-reload")
            self.reload = False
        if systemctl("is-enabled", unit).stdout.strip() != "enabled":
            self.changed = True
            if not self.check:
                systemctl("enable", unit)
        if answers and right:
            return "kept"
        changes = (
            ", ".join(key for key in wanted if started.get(key) != wanted[key])
            if answers
            else f"it was {state or 'absent'}"
        )
        self.changed = True
        text = f"{'restart' if answers else 'start'} with release {engine['release']} ({changes})\n"
        self.diff.append({"before_header": unit, "after_header": unit, "before": "", "after": text})
        if not self.check:
            # One that is starting with the right things, left by a killed run, is only waited for.
            self.bring_up(engine, answers, "start" if right else "restart", started.get("release"))
        return "restarted" if answers else "started"

    def extra(self) -> list[str]:
        listed = {engine["name"] for engine in self.p["engines"]}
        folder = self.root / "engines"
        found = (
            sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in listed)
            if folder.is_dir()
            else []
        )
        if not self.p["remove"]:
            return found
        for name in found:
            self.changed = True
            self.diff.append({"before": f"engine {name}\n", "after": ""})
            if not self.check:
                systemctl("disable", "--now", f"vllm@{name}.service")
                remove_tree(UNITS / f"vllm@{name}.service.d")
                remove_tree(self.folder(name))
                self.reload = True
        return []

    def run(self, result: dict[str, Any]) -> None:
        candidates = []
        for engine in self.p["engines"]:
            drop_in, settings = self.drop_in_of(engine)
            candidates.append((engine, drop_in, settings))
        # Everything is looked at before the first file is replaced.
        changed_unit = not same_file(UNITS / "vllm@.service", self.p["unit"], 0o644)
        for engine, drop_in, _ in candidates:
            path = UNITS / f"vllm@{engine['name']}.service.d" / "rackserve.conf"
            if (changed_unit or not same_file(path, drop_in, 0o644)) and not (
                self.check and not (self.root / "tools").exists()
            ):
                verify(engine["name"], self.p["unit"], drop_in)
        self.write_shared()
        result["extra"] = self.extra()
        for engine, drop_in, settings in candidates:
            self.at_work = engine["name"]
            state = self.ensure(engine, drop_in, settings)
            result["engines"][engine["name"]] = {"release": engine["release"], "state": state}
            if state == "pending":
                result["pending"].append(engine["name"])
        if self.reload and not self.check:
            systemctl("daemon-reload")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "unit": {"type": "str", "required": True},
            "launcher": {"type": "str", "required": True},
            "start_timeout_seconds": {"type": "int", "required": True},
            "environment": {"type": "dict", "default": {}},
            "engines": {"type": "list", "elements": "dict", "required": True},
            "arguments": {"type": "dict", "required": True},
            "digests": {"type": "dict", "required": True},
            "restart": {"type": "bool", "default": True},
            "remove": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    engines = Engines(module)
    result: dict[str, Any] = {"engines": {}, "pending": [], "extra": []}
    try:
        engines.run(result)
    except (Failed, UnitProblem) as error:
        left = [
            engine["name"]
            for engine in module.params["engines"]
            if engine["name"] not in (*result["engines"], engines.at_work)
        ]
        tail = f"\nNot touched on this node: {', '.join(left)}." if left else ""
        module.fail_json(msg=f"{error}{tail}", changed=engines.changed, diff=engines.diff, **result)
    module.exit_json(changed=engines.changed, diff=engines.diff, **result)


if __name__ == "__main__":
    main()
