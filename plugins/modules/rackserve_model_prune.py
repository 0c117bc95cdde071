#!/usr/bin/python
"""Old revisions of models: what something names stays, the newest few others stay, the rest goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_model_prune
short_description: Remove revisions of models that nothing uses any more
description:
  - A revision stays when it is listed, when its path is written in one of the files that O(references) finds, or when
    it is among the newest O(keep) others of its model.
options:
  root:
    description: Directory of the models.
    type: path
    required: true
  models:
    description: The models wanted, per name with C(revision).
    type: dict
    required: true
  references:
    description: Globs of files that name the directories in use. Without any, nothing can be proved unused and nothing
      is removed.
    type: list
    elements: str
    default: []
  keep:
    description: Other revisions that stay per model, the newest first.
    type: int
    default: 1
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Remove what nothing uses
  rackserve_model_prune:
    root: /opt/rackserve/models
    models: {tiny: {revision: "2"}}
    references: [/opt/rackserve/releases/*/release.json]
"""

RETURN = r"""
removed:
  description: Directories that were removed.
  returned: always
  type: list
"""

import glob  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_atomic import remove_tree  # noqa: E402
from ansible.module_utils.rackserve_manifest import Place  # noqa: E402


def unused(root: Path, models: dict[str, Any], references: list[str], keep: int) -> list[Place]:
    files = [Path(name) for pattern in references for name in glob.glob(pattern)]
    if not files:
        return []
    named = "\n".join(file.read_text() for file in files)
    found = []
    for model in sorted(path for path in root.glob("[!.]*") if path.is_dir()):
        wanted = models.get(model.name, {}).get("revision")
        others = [
            path for path in model.glob("[!.]*") if path.is_dir() and path.name != wanted and f'"{path}"' not in named
        ]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        found += [Place(root, model.name, path.name) for path in others[keep:]]
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "models": {"type": "dict", "required": True},
            "references": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    p = module.params
    places = unused(Path(p["root"]), p["models"], p["references"], p["keep"])
    if not module.check_mode:
        for place in places:
            remove_tree(place.final)
            place.manifest.unlink(missing_ok=True)
    paths = [str(place.final) for place in places]
    diff = {"before": "".join(f"{path}\n" for path in paths), "after": ""}
    module.exit_json(changed=bool(places), removed=paths, diff=diff)


if __name__ == "__main__":
    main()
