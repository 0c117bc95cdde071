#!/usr/bin/python
"""One systemd unit, its file and its state, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_unit
short_description: Keep a systemd unit's file as given, enabled and running
description:
  - Does what M(ansible.builtin.copy) and M(ansible.builtin.systemd_service) do in three round trips.
  - Does not restart a running unit when its file changes; the caller decides that by RV(file_changed).
options:
  name:
    description: Name of the unit with its suffix.
    type: str
    required: true
  content:
    description: The unit file.
    type: str
    required: true
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Run the daemon at every boot
  rackserve_unit:
    name: demo.service
    content: "{{ lookup('ansible.builtin.file', 'demo.service') }}\n"
"""

RETURN = r"""
file_changed:
  description: The unit file was different.
  returned: always
  type: bool
  sample: false
"""

import os  # noqa: E402
import tempfile  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402


class Unit:
    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.name = module, module.params["name"]
        self.path = f"/etc/systemd/system/{self.name}"

    def systemctl(self, *arguments: str) -> str:
        status, out, error = self.module.run_command(["systemctl", *arguments])
        if status != 0:
            self.module.fail_json(
                msg=f"systemctl {' '.join(arguments)} failed: {error.strip() or out.strip()}\n{self.journal()}"
            )
        return str(out)

    def journal(self) -> str:
        _, out, _ = self.module.run_command(
            ["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", self.name]
        )
        return f"Last lines of its journal:\n{out.strip()}" if out.strip() else ""

    def current(self) -> str:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def state(self) -> dict[str, str]:
        out = self.systemctl("show", self.name, "--property=UnitFileState,ActiveState,NeedDaemonReload")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def write(self, content: str) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(self.path), prefix=".rackserve-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.rename(temporary, self.path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"name": {"type": "str", "required": True}, "content": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    unit, content = Unit(module), module.params["content"]
    before, state = unit.current(), unit.state()
    file_changed = before != content
    stale = file_changed or state["NeedDaemonReload"] == "yes"
    idle = state["UnitFileState"] != "enabled" or state["ActiveState"] != "active"
    if not module.check_mode:
        if file_changed:
            unit.write(content)
        if stale:
            unit.systemctl("daemon-reload")
        if idle:
            unit.systemctl("enable", "--now", "--quiet", unit.name)
    described = f"{unit.name} is {state['UnitFileState'] or 'not there'} and {state['ActiveState']}\n"
    diff = [{"before_header": unit.path, "after_header": unit.path, "before": before, "after": content}]
    if idle:
        headers = {"before_header": "state", "after_header": "state"}
        diff.append({**headers, "before": described, "after": f"{unit.name} is enabled and active\n"})
    module.exit_json(changed=stale or idle, file_changed=file_changed, diff=diff if stale or idle else [])


if __name__ == "__main__":
    main()
