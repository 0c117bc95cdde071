#!/usr/bin/python
"""Kernel settings with their reasons: one file for boot, live values put right, what this node cannot set left out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_sysctl
short_description: Keep kernel settings in one file and in the running kernel
description:
  - A setting that the kernel lacks, or that belongs to the host of a container, is left out and named.
  - Live values that drifted from the file are put right too.
options:
  settings:
    description: The settings.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name with dots.
        type: str
        required: true
      value:
        description: As C(sysctl -w) takes it.
        type: str
        required: true
      reason:
        description: Stands as a comment above the line.
        type: str
        required: true
  path:
    description: The file that boot reads.
    type: path
    default: /etc/sysctl.d/90-rackserve.conf
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Set what long streams need
  rackserve_sysctl:
    settings:
      - {name: net.core.somaxconn, value: "16384", reason: bursts of new clients wait instead of being refused}
"""

RETURN = r"""
skipped_settings:
  description: Settings left out, with the reason.
  returned: always
  type: list
  elements: str
  sample: ["vm.swappiness: belongs to the host of this container"]
"""

import os  # noqa: E402
import tempfile  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402


def unsettable(name: str, container: str, path: str) -> str | None:
    """Why this node cannot have the setting, or None."""
    if not os.path.exists(path):
        return "this kernel does not have it"
    # Only the network part is the container's own; the rest would change its host for everybody.
    if container and not name.startswith("net."):
        return "belongs to the host of this container"
    if not os.access(path, os.W_OK):
        return "read-only on this node"
    return None


def same(one: str, other: str) -> bool:
    """The kernel answers lists with tabs."""
    return one.split() == other.split()


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def main() -> None:
    options = {name: {"type": "str", "required": True} for name in ("name", "value", "reason")}
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "list", "elements": "dict", "required": True, "options": options},
            "path": {"type": "path", "default": "/etc/sysctl.d/90-rackserve.conf"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    _, container, _ = module.run_command(["systemd-detect-virt", "--container"])
    container = "" if container.strip() in ("", "none") else container.strip()

    lines = ["# Written by Ansible (role base) from base_sysctl; changes here are lost."]
    skipped: list[str] = []
    drifted: list[tuple[str, str, str, str]] = []
    for setting in module.params["settings"]:
        name, value = setting["name"], setting["value"]
        live = "/proc/sys/" + name.replace(".", "/")
        if (reason := unsettable(name, container, live)) is not None:
            skipped.append(f"{name}: {reason}")
            continue
        lines += [f"# {setting['reason']}", f"{name} = {value}"]
        if not same(now := read(live).strip(), value):
            drifted.append((name, live, now, value))
    text = "\n".join(lines) + "\n"

    before = read(path)
    diff = [{"before_header": path, "after_header": path, "before": before, "after": text}] if before != text else []
    if drifted:
        diff.append(
            {
                "before_header": "running kernel",
                "after_header": "running kernel",
                "before": "".join(f"{name} = {now}\n" for name, _, now, _ in drifted),
                "after": "".join(f"{name} = {value}\n" for name, _, _, value in drifted),
            }
        )
    if not module.check_mode:
        for name, live, _, value in drifted:
            try:
                with open(live, "w", encoding="utf-8") as file:
                    file.write(value)
            except OSError as error:
                module.fail_json(
                    msg=f"base_sysctl: the kernel refuses {name} = {value}: {error.strerror}. {path} is unchanged."
                )
        if before != text:
            descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".rackserve-")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.rename(temporary, path)
    module.exit_json(changed=bool(diff), skipped_settings=skipped, diff=diff)


if __name__ == "__main__":
    main()
