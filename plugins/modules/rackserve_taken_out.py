#!/usr/bin/python
"""Which engines an operator has taken out at this balancer. Changes nothing. Standard library only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_taken_out
short_description: Say which engines an operator has taken out at this balancer
description:
  - Asks the running HAProxy whom operators have drained or put in maintenance, whatever the checks say, and reads the records of
    C(scripts/drain) for who did it and since when.
  - Changes nothing; the same in check mode. Where HAProxy does not run, nothing is taken out.
options:
  socket:
    description: HAProxy's admin socket.
    type: path
    default: /run/haproxy/admin.sock
  records:
    description: Directory of the records.
    type: path
    default: /var/lib/rackserve/drains
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Look which engines are out on purpose
  rackserve_taken_out:
  register: out
"""

RETURN = r"""
engines:
  description: Engine and the words for it.
  returned: always
  type: dict
  sample: {chat-gpu3: "drained by root@admin1 since 2026-11-29 03:11:02 UTC"}
"""

import json  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

# srv_admin_state: a bit each for what was asked of this server itself.
MAINTENANCE, DRAIN = 0x01, 0x08
SECONDS = 5


def ask(path: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode(errors="replace")


def taken_out(reply: str) -> dict[str, str]:
    """`show servers state engines`: a version, a header, then a line for each server."""
    lines = [line.split() for line in reply.splitlines() if line.strip()]
    if len(lines) < 2 or lines[1][0] != "#":
        raise ValueError(f"unexpected answer to 'show servers state engines': {reply[:200]!r}")
    column = {name: number for number, name in enumerate(lines[1][1:])}
    found = {}
    for words in lines[2:]:
        bits = int(words[column["srv_admin_state"]])
        if bits & (MAINTENANCE | DRAIN):
            found[words[column["srv_name"]]] = "drained" if bits & DRAIN else "in maintenance"
    return found


def told(word: str, record: Path) -> str:
    """With what the record adds. One that is broken is no reason to fail here; scripts/drain says so."""
    try:
        found: dict[str, Any] = json.loads(record.read_text())
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(found["since"])))
        reason = f": {found['reason']}" if found.get("reason") else ""
        return f"{word} by {found['by']} since {since}{reason}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{word} by an operator"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "records": {"type": "path", "default": "/var/lib/rackserve/drains"},
        },
        supports_check_mode=True,
    )
    where = module.params["socket"]
    try:
        states = taken_out(ask(where, "show servers state engines")) if Path(where).exists() else {}
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{where}: {error}. Look at HAProxy: systemctl status haproxy")
    records = Path(module.params["records"])
    module.exit_json(
        changed=False, engines={name: told(word, records / f"{name}.json") for name, word in states.items()}
    )


if __name__ == "__main__":
    main()
