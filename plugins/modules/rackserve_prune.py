#!/usr/bin/python
"""Old releases and environments: the newest few stay for going back, what is in use stays always, the rest goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_prune
short_description: Remove releases and environments that nothing uses any more
description:
  - A release stays when it is listed, when an engine points to it or runs with it, or when it is one of the last
    releases that an engine answered with. An environment stays when a release that stays names it.
options:
  root:
    description: The bundle's directory on the node.
    type: path
    required: true
  releases:
    description: Releases that stay in any case.
    type: list
    elements: str
    required: true
  keep:
    description: How many earlier releases stay per engine, beside the one that it runs with.
    type: int
    default: 2
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Remove what nothing uses
  rackserve_prune:
    root: /opt/rackserve
    releases: [small-2]
"""

RETURN = r"""
removed:
  description: Paths that were removed.
  returned: always
  type: list
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_atomic import read_json, read_link, remove_tree  # noqa: E402


def in_use(root: Path, listed: list[str], keep: int) -> set[str]:
    found = set(listed)
    for folder in (root / "engines").glob("*"):
        pointer = read_link(folder / "current")
        current = pointer.rsplit("/", 1)[-1] if pointer else ""
        started = read_json(Path("/run/rackserve") / folder.name / "started.json") or {}
        earlier = [
            entry["release"] for entry in read_json(folder / "history.json") or [] if entry["release"] != current
        ]
        found |= {current, started.get("release", ""), *(earlier[-keep:] if keep else [])}
    return found - {""}


def unused(root: Path, listed: list[str], keep: int) -> list[Path]:
    used = in_use(root, listed, keep)
    releases = [path for path in sorted((root / "releases").glob("[!.]*")) if path.is_dir()]
    gone = [path for path in releases if path.name not in used]
    needed = {(read_json(path / "release.json") or {}).get("environment_path") for path in releases if path not in gone}
    environments = sorted((root / "environments").iterdir()) if (root / "environments").is_dir() else []
    # Names with a dot in front are what a killed run left half built or half removed.
    return gone + [path for path in environments if str(path) not in needed]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "releases": {"type": "list", "elements": "str", "required": True},
            "keep": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    paths = unused(Path(module.params["root"]), module.params["releases"], module.params["keep"])
    if not module.check_mode:
        for path in paths:
            remove_tree(path)
    diff = {"before": "".join(f"{path}\n" for path in paths), "after": ""}
    module.exit_json(changed=bool(paths), removed=[str(path) for path in paths], diff=diff)


if __name__ == "__main__":
    main()
