#!/usr/bin/python
"""Keeps one nftables table equal to a ruleset, in the file that boot loads and in the kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_firewall
short_description: Keep one nftables table equal to a ruleset, on disk and in the kernel
description:
  - Loads the ruleset into a network namespace of its own first, so that the kernel accepts it before anything changes.
  - Compares the live table with what that namespace holds, so that rules added, removed or flushed are put right.
  - Refuses a list that would cut the ssh connection over which it runs.
  - Never touches other tables. File and table are left alone where they are right.
options:
  listeners:
    description: The list the ruleset was made from, see the role's argument specs.
    type: list
    elements: dict
    required: true
  ruleset:
    description: The whole file for C(nft -f), which has to replace the table in one transaction.
    type: str
    required: true
  path:
    description: Where the ruleset is kept for the next boot.
    type: path
    default: /etc/rackserve/firewall.nft
  family:
    description: Family of the table.
    type: str
    default: inet
  table:
    description: Name of the table.
    type: str
    default: rackserve
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Apply the list of listeners
  rackserve_firewall:
    listeners: "{{ firewall_listeners }}"
    ruleset: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
"""

RETURN = r"""
nft_missing:
  description: nftables is not installed; nothing was done. Install it and call again.
  returned: always
  type: bool
  sample: false
file_changed:
  description: The file on disk was different.
  returned: always
  type: bool
  sample: false
table_changed:
  description: The live table was missing or different.
  returned: always
  type: bool
  sample: false
"""

import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_firewall import check_listeners, comparable, lockout  # noqa: E402


def ssh_connection() -> tuple[str, int] | None:
    """(client address, port on this node) of the ssh session above us. sudo drops the variable: ask the parents."""
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                for entry in environ.read().split(b"\0"):
                    if entry.startswith(b"SSH_CONNECTION="):
                        client, _, _, port = entry.decode().partition("=")[2].split()
                        return client, int(port)
            with open(f"/proc/{pid}/stat") as stat:
                # The command name is in brackets and may hold spaces; the parent is the second field after it.
                pid = int(stat.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return None
    return None


class Firewall:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.table = [module.params["family"], module.params["table"]]
        self.nft = module.get_bin_path("nft")

    def wanted(self, candidate: str) -> tuple[dict[str, Any], str]:
        """The candidate as the kernel has it, loaded in an empty network namespace: as JSON and as text."""
        unshare = self.module.get_bin_path("unshare", required=True)
        script = '"$1" --file "$2" && "$1" --json list table "$3" "$4" && exec "$1" --stateless list table "$3" "$4"'
        status, out, error = self.module.run_command(
            [unshare, "--net", "/bin/sh", "-c", script, "sh", self.nft, candidate, *self.table]
        )
        if status != 0:
            # Numbers of lines are worth nothing without the lines, and the temporary file is gone when this is read.
            self.module.fail_json(
                msg=f"nft refuses the new ruleset; the live firewall and {self.module.params['path']} are unchanged.\n"
                f"{error.strip().replace(candidate, 'line')}\nCheck firewall_listeners of this host.",
            )
        document, _, text = out.partition("\n")
        return dict(json.loads(document)), text

    def live(self) -> dict[str, Any]:
        status, out, _ = self.module.run_command([self.nft, "--json", "list", "table", *self.table])
        return dict(json.loads(out)) if status == 0 else {}

    def text(self) -> str:
        """For the diff: the live table in nft's own language, without the counters that move by themselves."""
        status, out, _ = self.module.run_command([self.nft, "--stateless", "list", "table", *self.table])
        return str(out) if status == 0 else ""

    def load(self, path: str) -> None:
        status, _, error = self.module.run_command([self.nft, "--file", path])
        if status != 0:
            self.module.fail_json(msg=f"nft could not load {path}: {error.strip()}. The table is as it was before.")


def current(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    """By rename: boot reads the old file or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".rackserve-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def mode_is(path: str, mode: int) -> bool:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return False
    return (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (mode, 0, 0)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "listeners": {"type": "list", "elements": "dict", "required": True},
            "ruleset": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/etc/rackserve/firewall.nft"},
            "family": {"type": "str", "default": "inet"},
            "table": {"type": "str", "default": "rackserve"},
        },
        supports_check_mode=True,
    )
    path, ruleset, listeners = module.params["path"], module.params["ruleset"], module.params["listeners"]

    problems = check_listeners(listeners)
    if not problems and (session := ssh_connection()) and (reason := lockout(listeners, *session)):
        problems = [reason]
    if problems:
        module.fail_json(msg="Nothing was changed.\n" + "\n".join(f"- {problem}" for problem in problems))

    firewall = Firewall(module)
    if not firewall.nft:
        # Asked before nftables is there, so that a bad list is refused before even a package is installed.
        diff = [{"before_header": path, "after_header": path, "before": current(path), "after": ruleset}]
        module.exit_json(changed=module.check_mode, nft_missing=True, file_changed=True, table_changed=True, diff=diff)
    with tempfile.NamedTemporaryFile("w", prefix="rackserve-", suffix=".nft", encoding="utf-8") as candidate:
        candidate.write(ruleset)
        candidate.flush()
        document, wanted_text = firewall.wanted(candidate.name)
    wanted = comparable(document)

    before = current(path)
    file_changed = before != ruleset or not mode_is(path, 0o644)
    table_changed = comparable(firewall.live()) != wanted
    if file_changed:
        diff = [{"before_header": path, "after_header": path, "before": before, "after": ruleset}]
    else:
        # Only drift of the live table is news then: the file's own diff says the rest.
        header = f"live table {' '.join(firewall.table)}"
        text = firewall.text() if table_changed else wanted_text
        diff = [{"before_header": header, "after_header": header, "before": text, "after": wanted_text}]

    if not module.check_mode:
        if file_changed:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write(path, ruleset)
        if table_changed:
            firewall.load(path)
            if comparable(firewall.live()) != wanted:
                module.fail_json(
                    msg="The table was loaded and still differs: something else on this host writes to it."
                )
    module.exit_json(
        changed=file_changed or table_changed,
        nft_missing=False,
        file_changed=file_changed,
        table_changed=table_changed,
        diff=diff,
    )


if __name__ == "__main__":
    main()
