#!/usr/bin/python
"""Models on a node, each revision complete or absent, with the SHA-256 of every file beside it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_model
short_description: Check, repair and seal the models of a node
description:
  - Compares each model's directory with its manifest. Models that stand on the node are copied, the rest is returned
    in C(needs).
  - A copy is made under another name and renamed when every file was hashed, so an interrupted one is never taken for
    a model.
  - Files that differ from the manifest are named and fetched again, and only these. A revision is never given other
    content.
options:
  root:
    description: Directory of the models; a revision stands in C(<root>/<model>/<revision>).
    type: path
    required: true
  models:
    description: Per name C(revision) and C(source).
    type: dict
    required: true
  verify:
    description: V(quick) trusts files whose size and time are as recorded, V(full) reads every byte.
    type: str
    choices: [quick, full]
    default: quick
  needs:
    description: What an earlier call returned under this name. Goes with O(fetched) and O(download).
    type: dict
    default: {}
  fetched:
    description: Models that were just fetched from outside; they are hashed and become complete.
    type: list
    elements: str
    default: []
  download:
    description: Models that this node downloads from their hub now.
    type: list
    elements: str
    default: []
  expected:
    description: Per model the digest of its content on the node that it was copied from.
    type: dict
    default: {}
  hub:
    description: C(python) to make tools with, C(lock) of huggingface_hub and C(script), the text of the download
      script.
    type: dict
    default: {}
  tokens:
    description: Per model the access token of its hub.
    type: dict
    default: {}
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Look at the models
  rackserve_model:
    root: /opt/rackserve/models
    models:
      tiny: {revision: "1", source: {kind: node, path: /srv/tiny}}
  register: __models
"""

RETURN = r"""
needs:
  description: What has to come from outside. Per model C(kind), C(state), C(files) to fetch (empty means all), C(into)
    and C(message).
  returned: always
  type: dict
complete:
  description: Per model that is complete the digest of its content.
  returned: always
  type: dict
"""

import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_atomic import remove_tree  # noqa: E402
from ansible.module_utils.rackserve_manifest import (  # noqa: E402
    Finding,
    Place,
    examine,
    read_manifest,
    seal,
    seal_repair,
    tidy,
)
from ansible.module_utils.rackserve_tools import CannotInstall, install, package_environment  # noqa: E402


class Unusable(Exception):
    """A model that cannot become complete: which, why, and what to do."""


def plain(name: str) -> str:
    """`model.safetensors (3 bytes, should be 5)` without the reason."""
    return name.split(" (", 1)[0]


class Store:
    def __init__(self, module: AnsibleModule) -> None:
        self.p = module.params
        self.check = module.check_mode
        self.diff: list[dict[str, str]] = []
        self.needs: dict[str, dict[str, Any]] = {}
        self.complete: dict[str, str] = {}

    def place(self, name: str) -> Place:
        return Place(Path(self.p["root"]), name, self.p["models"][name]["revision"])

    def source(self, name: str) -> dict[str, Any]:
        source: dict[str, Any] = self.p["models"][name]["source"]
        return source

    def say(self, name: str, finding: Finding) -> str:
        place = self.place(name)
        what = {"missing": "not there", "unproven": "there, but without a manifest that proves its files"}.get(
            finding.state, "damaged"
        )
        files = [*finding.bad, *(f"{extra} (nobody put it there)" for extra in finding.extra)]
        files += [f"{touched} (other time)" for touched in finding.touched]
        text = f"model {name} revision {place.revision}: {what}{': ' + ', '.join(files) if files else ''}"
        self.diff.append({"before": f"{text}\n", "after": f"model {name} revision {place.revision}: complete\n"})
        return text

    def look(self, name: str) -> None:
        place = self.place(name)
        finding = examine(place, self.p["verify"] == "full")
        if finding.state == "complete":
            self.complete[name] = (read_manifest(place) or {})["digest"]
            return
        message = self.say(name, finding)
        if self.check:
            return
        if finding.state == "damaged":
            tidy(place, finding)
            if not finding.bad:
                self.complete[name] = (read_manifest(place) or {})["digest"]
                return
        if finding.state == "unproven":
            # The copy starts from these files, as links; the engines keep theirs until it is complete.
            remove_tree(place.partial)
            subprocess.run(["cp", "--archive", "--link", str(place.final), str(place.partial)], check=True)
        files = [plain(bad) for bad in finding.bad]
        into = place.final if files else place.partial
        into.mkdir(parents=True, exist_ok=True)
        self.needs[name] = {
            "kind": self.source(name)["kind"],
            "state": finding.state,
            "files": files,
            "into": str(into),
            "message": message,
        }
        if self.source(name)["kind"] == "node":
            self.copy_on_node(name)

    def copy_on_node(self, name: str) -> None:
        need, source = self.needs[name], Path(self.source(name)["path"])
        if not (source / "config.json").is_file():
            raise Unusable(
                f"model {name}: {source} has no config.json on this node. Put the model there, or correct the path "
                "of its source"
            )
        files = need["files"] or sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
        for file in files:
            if not (source / file).is_file():
                raise Unusable(
                    f"model {name}: {need['message']}; {source / file} is missing too, so it cannot be repaired "
                    "from there"
                )
            target = Path(need["into"]) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.parent / f".{target.name}.copy"
            command = [
                "cp",
                "--reflink=auto",
                "--dereference",
                "--preserve=timestamps",
                str(source / file),
                str(beside),
            ]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise Unusable(f"model {name}: {result.stderr.strip()}")
            beside.replace(target)
        self.finish(name, need)

    def finish(self, name: str, need: dict[str, Any]) -> None:
        place = self.place(name)
        if need["files"]:
            if still := seal_repair(place, need["files"]):
                raise Unusable(
                    f"model {name} revision {place.revision}: {', '.join(still)} still differs from the manifest "
                    "after it was fetched again, so "
                    "the source has other content now. A revision never changes: give the new content a revision "
                    "of its own. If the source is "
                    f"right and the manifest is not, remove {place.final} and {place.manifest}"
                )
        else:
            try:
                seal(place, {key: value for key, value in self.source(name).items() if key != "token_variable"})
            except ValueError as error:
                raise Unusable(
                    f"model {name} revision {place.revision}: what was fetched into {place.partial} cannot be "
                    f"taken: {error}"
                ) from error
        digest = (read_manifest(place) or {})["digest"]
        wanted = self.p["expected"].get(name)
        if wanted and wanted != digest:
            raise Unusable(
                f"model {name} revision {place.revision}: the copy differs from the node that it was copied from. "
                f"Remove {place.final} and run again"
            )
        self.complete[name] = digest
        self.needs.pop(name, None)

    def download(self, name: str, need: dict[str, Any]) -> None:
        source, place = self.source(name), self.place(name)
        question = {
            "repository": source["repository"],
            "revision": place.revision,
            "endpoint": source.get("endpoint"),
            "token": self.p["tokens"].get(name),
            "include": list(source.get("include") or []) or None,
            "files": need["files"],
            "into": need["into"],
        }
        hub = self.p["hub"]
        tool = install(place.root / ".tools", "hub", hub["lock"], hub["python"], package_environment())
        home = place.root / ".hub"
        home.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(
            [str(tool / "bin" / "python"), "-I", "-c", hub["script"]],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            },
        )
        remove_tree(home)
        if result.returncode:
            said = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise Unusable(f"model {name}: {said}")

    def run(self) -> None:
        if not self.p["fetched"] and not self.p["download"]:
            for name in self.p["models"]:
                self.look(name)
            return
        for name in [*self.p["download"], *self.p["fetched"]]:
            need = self.p["needs"][name]
            if name in self.p["download"]:
                self.download(name, need)
            self.finish(name, need)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "models": {"type": "dict", "required": True},
            "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "needs": {"type": "dict", "default": {}},
            "fetched": {"type": "list", "elements": "str", "default": []},
            "download": {"type": "list", "elements": "str", "default": []},
            "expected": {"type": "dict", "default": {}},
            "hub": {"type": "dict", "default": {}},
            "tokens": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    store = Store(module)
    try:
        store.run()
    except (Unusable, CannotInstall) as error:
        module.fail_json(msg=str(error), diff=store.diff, needs=store.needs, complete=store.complete)
    changed = bool(store.diff) or bool(module.params["download"] or module.params["fetched"])
    module.exit_json(changed=changed, diff=store.diff, needs=store.needs, complete=store.complete)


if __name__ == "__main__":
    main()
