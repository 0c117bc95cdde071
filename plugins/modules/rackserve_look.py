#!/usr/bin/python
"""One cheap look at a node before the slow modules: which packages and groups are missing, is it a container."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_look
short_description: Say which packages and groups a node lacks, and whether it is a container
description:
  - Asks dpkg's own list in a few milliseconds. The apt module needs a second to find out that there is nothing to do.
  - Changes nothing.
options:
  packages:
    description: Names of packages.
    type: list
    elements: str
    default: []
  groups:
    description: Names of groups.
    type: list
    elements: str
    default: []
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Look at the node
  rackserve_look:
    packages: [rsync]
  register: __demo

- name: Install what is missing
  ansible.builtin.apt:
    name: "{{ __demo.missing_packages }}"
  when: __demo.missing_packages | length > 0
"""

RETURN = r"""
missing_packages:
  description: Those that are not installed, or not completely.
  returned: always
  type: list
  elements: str
  sample: [rsync]
missing_groups:
  description: Those that do not exist.
  returned: always
  type: list
  elements: str
  sample: []
container:
  description: The kind of container, empty on a machine.
  returned: always
  type: str
  sample: systemd-nspawn
"""

import grp  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402


def installed(module: AnsibleModule, packages: list[str]) -> set[str]:
    if not packages:
        return set()
    # Fails when it does not know one of them, and still answers for the others.
    _, out, _ = module.run_command(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *packages])
    return {name for status, _, name in (line.partition(" ") for line in out.splitlines()) if status == "installed"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "groups": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    there = installed(module, module.params["packages"])
    groups = {entry.gr_name for entry in grp.getgrall()}
    _, container, _ = module.run_command(["systemd-detect-virt", "--container"])
    module.exit_json(
        changed=False,
        missing_packages=[name for name in module.params["packages"] if name not in there],
        missing_groups=[name for name in module.params["groups"] if name not in groups],
        container="" if container.strip() in ("", "none") else container.strip(),
    )


if __name__ == "__main__":
    main()
