#!/usr/bin/python
"""Releases on a node: environment, model, flags.

Written once, after the installed version's own parser took the flags.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_release
short_description: Place immutable releases of an engine's software, model and flags
description:
  - Writes C(<root>/releases/<release>/release.json). A release that stands is never edited; a definition that differs
    is refused.
  - Before a release is written, and before an engine gets other flags, all flags are shown to the parser of the
    version in the release's environment, as the engines' user. What it took is remembered by digest, so a rerun does
    not ask again.
options:
  root:
    description: The bundle's directory on the node.
    type: path
    required: true
  user:
    description: The user that the engines run as.
    type: str
    required: true
  model_root:
    description: The directory below which C(<model>/<revision>) stands.
    type: path
    required: true
  command:
    description: How an engine is started, inside the environment's C(bin) directory, before the model's path.
    type: str
    default: vllm serve
  checker:
    description: The text of the script that asks the parser.
    type: str
    required: true
  releases:
    description: Per name C(package), C(version), C(lock), C(model), C(model_revision), C(flags), C(environment).
    type: dict
    required: true
  environments:
    description: Per lock the C(path) of its environment, as M(rackserve_environment) returns it.
    type: dict
    required: true
  engines:
    description: This node's engines; their flags are shown to the parser together with those of their release.
    type: list
    elements: dict
    default: []
  common_flags:
    description: Flags of all engines.
    type: dict
    default: {}
  drain_seconds:
    description: How long an engine may drain when it stops.
    type: int
    default: 120
  queued_beyond_slots:
    description: Requests beyond its slots that an engine takes.
    type: int
    default: 8
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Place the releases
  rackserve_release:
    root: /opt/rackserve
    user: vllm
    model_root: /opt/rackserve/models
    checker: "{{ lookup('ansible.builtin.file', 'check_flags.py') }}"
    releases: "{{ vllm_releases }}"
    environments: "{{ __vllm_environments.environments }}"
"""

RETURN = r"""
digests:
  description: Per release the digest of its content.
  returned: always
  type: dict
engine_arguments:
  description: Per engine the words of its command line that follow from the engine itself.
  returned: always
  type: dict
"""

import json  # noqa: E402
import os  # noqa: E402
import pwd  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_arguments import arguments_of, engine_flags, words_of  # noqa: E402
from ansible.module_utils.rackserve_atomic import canonical, digest_of, read_json, same_file, write_atomic  # noqa: E402


class Refused(Exception):
    """What is wrong with a definition, and the way out."""


class Releases:
    def __init__(self, module: AnsibleModule) -> None:
        p = module.params
        self.check = module.check_mode
        self.root = Path(p["root"])
        self.model_root = Path(p["model_root"])
        self.command: str = p["command"]
        self.user: str = p["user"]
        self.checker: str = p["checker"]
        self.releases: dict[str, Any] = p["releases"]
        self.environments: dict[str, Any] = p["environments"]
        self.engines = {
            engine["name"]: {
                "release": engine["release"],
                "flags": engine_flags(engine, p["common_flags"], p["drain_seconds"], p["queued_beyond_slots"]),
            }
            for engine in p["engines"]
        }
        self.diff: list[dict[str, str]] = []
        # In check mode on a fresh node there is no such user yet.
        self.gid = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_name == self.user), 0)

    def content_of(self, name: str) -> dict[str, Any]:
        release = self.releases[name]
        environment = self.environments[release["lock"]]["path"]
        model = self.model_root / release["model"] / release["model_revision"]
        program, *words = self.command.split()
        content = {
            "release": name,
            "package": release["package"],
            "version": release["version"],
            "lock": release["lock"],
            "environment_path": environment,
            "model": release["model"],
            "model_revision": release["model_revision"],
            "model_path": str(model),
            "flags": release.get("flags") or {},
            "environment": {key: str(value) for key, value in (release.get("environment") or {}).items()},
            "command": [f"{environment}/bin/{program}", *words, str(model), *arguments_of(release.get("flags") or {})],
        }
        return {**content, "digest": digest_of(content)}

    def path_of(self, name: str) -> Path:
        return self.root / "releases" / name / "release.json"

    def standing(self, name: str) -> dict[str, Any] | None:
        """What the node has under this name, when it is whole.

        A file that was tampered with counts as absent and is repaired.
        """
        found = read_json(self.path_of(name))
        if not isinstance(found, dict):
            return None
        content = {key: value for key, value in found.items() if key != "digest"}
        return found if found.get("digest") == digest_of(content) else None

    def refuse_edited(self, contents: dict[str, dict[str, Any]]) -> None:
        problems = []
        for name, wanted in contents.items():
            found = self.standing(name)
            if found is None or found["digest"] == wanted["digest"]:
                continue
            keys = [key for key in wanted if key not in ("digest", "command") and found.get(key) != wanted[key]]
            changes = "; ".join(
                f"{key} is {json.dumps(found.get(key))} here, {json.dumps(wanted[key])} in the definition"
                for key in keys
            )
            base = re.sub(r"-?\d+$", "", name)
            number = int((re.search(r"\d+$", name) or re.search("1", "1")).group()) + 1  # type: ignore[union-attr]
            problems.append(
                f"release {name} stands on this node with other content: {changes or 'the command changed'}. A "
                "release is never edited. "
                f"Write a new one beside it (such as {base}-{number}) and point the pool to it. To throw the old "
                "one away instead, point all "
                f"engines to another release, then remove {self.path_of(name).parent}"
            )
        if problems:
            raise Refused("\n".join(problems))

    def refuse_missing_model(self, contents: dict[str, dict[str, Any]]) -> None:
        for name, content in contents.items():
            if not (Path(content["model_path"]) / "config.json").is_file():
                raise Refused(
                    f"release {name} wants model {content['model']} revision {content['model_revision']}, but "
                    f"{content['model_path']} has no "
                    "config.json on this node. Run the model_store role first (ansible-playbook site.yml --tags "
                    "model_store)"
                )

    def subjects(self, contents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What has to be shown to a parser: each release with the flags of each engine that uses it.

        Alone when none does.
        """
        found = {}
        for name in contents:
            users = {engine: item for engine, item in self.engines.items() if item["release"] == name}
            flags = self.releases[name].get("flags") or {}
            for engine, item in users.items():
                if twice := sorted(set(flags) & set(item["flags"])):
                    raise Refused(
                        f"release {name}: flag {', '.join(twice)} is set by the engine {engine} or by "
                        "vllm_engine_flags already; remove it from the release"
                    )
                found[f"release {name} with engine {engine}"] = {"release": name, "flags": {**flags, **item["flags"]}}
            if not users:
                found[f"release {name}"] = {"release": name, "flags": flags}
        return found

    def mark_of(self, contents: dict[str, dict[str, Any]], item: dict[str, Any]) -> Path:
        """Ports and names are values of a checked type, so two engines that differ only in them need no second look."""
        alike = {key: value for key, value in item["flags"].items() if key not in ("port", "served-model-name")}
        question = [contents[item["release"]]["environment_path"], alike, digest_of(self.checker)]
        digest: str = digest_of(question)
        return self.root / "releases" / ".checked" / digest[:32]

    def check_flags(self, contents: dict[str, dict[str, Any]]) -> None:
        todo: dict[str, dict[str, Any]] = {}
        for subject, item in self.subjects(contents).items():
            if not self.mark_of(contents, item).exists():
                todo.setdefault(contents[item["release"]]["environment_path"], {})[subject] = item
        problems = []
        for environment, subjects in todo.items():
            if self.check and not Path(environment).exists():
                # Check mode of a first installation: there is no parser to ask yet.
                continue
            answers = self.ask(environment, subjects)
            problems += [f"{subject}: {problem}" for subject, found in answers.items() for problem in found]
            for subject, item in subjects.items():
                if not answers[subject] and not self.check:
                    write_atomic(self.mark_of(contents, item), f"{subject}\n", 0o644)
        if problems:
            raise Refused("\n".join(problems) + "\nNothing was changed; engines that run go on as they are.")

    def ask(self, environment: str, subjects: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
        question = {
            subject: [[flag, value, words_of(flag, value)] for flag, value in sorted(item["flags"].items())]
            for subject, item in subjects.items()
        }
        entry = pwd.getpwnam(self.user)
        result = subprocess.run(
            [f"{environment}/bin/python", "-B", "-c", self.checker],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/tmp",
                "VLLM_NO_USAGE_STATS": "1",
                "HF_HUB_OFFLINE": "1",
                "VLLM_LOGGING_LEVEL": "ERROR",
            },
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
        )
        if result.returncode:
            tail = "\n".join(result.stderr.strip().splitlines()[-8:])
            raise Refused(f"the parser of {environment} could not be asked about the flags: {tail}")
        answers: dict[str, list[str]] = json.loads(result.stdout.strip().splitlines()[-1])
        return answers

    def place(self, contents: dict[str, dict[str, Any]]) -> None:
        for name, wanted in contents.items():
            path = self.path_of(name)
            if same_file(path, canonical(wanted), 0o640, self.gid):
                continue
            self.diff.append(
                {"before_header": str(path), "after_header": str(path), "before": "", "after": canonical(wanted)}
            )
            if not self.check:
                write_atomic(path, canonical(wanted), 0o640, self.gid)

    def run(self) -> dict[str, str]:
        contents = {name: self.content_of(name) for name in self.releases}
        self.refuse_edited(contents)
        if not self.check:
            self.refuse_missing_model(contents)
        self.check_flags(contents)
        self.place(contents)
        return {name: content["digest"] for name, content in contents.items()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "model_root": {"type": "path", "required": True},
            "command": {"type": "str", "default": "vllm serve"},
            "checker": {"type": "str", "required": True},
            "releases": {"type": "dict", "required": True},
            "environments": {"type": "dict", "required": True},
            "engines": {"type": "list", "elements": "dict", "default": []},
            "common_flags": {"type": "dict", "default": {}},
            "drain_seconds": {"type": "int", "default": 120},
            "queued_beyond_slots": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    releases = Releases(module)
    try:
        digests = releases.run()
    except Refused as error:
        module.fail_json(msg=str(error))
    arguments = {name: arguments_of(item["flags"]) for name, item in releases.engines.items()}
    module.exit_json(changed=bool(releases.diff), digests=digests, engine_arguments=arguments, diff=releases.diff)


if __name__ == "__main__":
    main()
