#!/usr/bin/python
"""A small Python tool in its own environment, from a lock with hashes, beside whatever the node's Python has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_tool
short_description: Install locked Python packages into an environment of their own
description:
  - The environment is named by its lock, C(<root>/<name>-<hash8>), and never changed. Another lock makes another one
    beside it.
  - What a killed run left is installed again.
options:
  root:
    description: Where the environments of tools are.
    type: path
    default: /opt/rackserve/tools
  name:
    description: Name of the tool.
    type: str
    required: true
  lock:
    description: The text of the lock, a requirements file with hashes.
    type: str
    required: true
  python:
    description: The interpreter that the environment is made with.
    type: path
    default: /usr/bin/python3
  index_url:
    description: Package index. Empty means what the node's own pip configuration says.
    type: str
    default: ""
  find_links:
    description: Further folders or pages with packages.
    type: list
    elements: str
    default: []
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Have what the program imports
  rackserve_tool:
    name: demo
    lock: "{{ lookup('ansible.builtin.file', 'lock.txt') }}\n"
  register: __demo_tool
"""

RETURN = r"""
path:
  description: The environment.
  returned: always
  type: str
  sample: /opt/rackserve/tools/demo-1a2b3c4d
"""

from pathlib import Path  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_tools import (  # noqa: E402
    CannotInstall,
    install,
    installed,
    package_environment,
    tool_path,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/rackserve/tools"},
            "name": {"type": "str", "required": True},
            "lock": {"type": "str", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "index_url": {"type": "str", "default": ""},
            "find_links": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    root, name, lock = Path(given["root"]), given["name"], given["lock"]
    target = tool_path(root, name, lock)
    changed = not installed(target)
    if changed and not module.check_mode:
        try:
            install(root, name, lock, given["python"], package_environment(given["index_url"], given["find_links"]))
        except CannotInstall as error:
            module.fail_json(msg=str(error))
    change = {"before": "", "after": f"install {name} into {target}\n"} if changed else {}
    module.exit_json(changed=changed, path=str(target), **({"diff": change} if changed else {}))


if __name__ == "__main__":
    main()
