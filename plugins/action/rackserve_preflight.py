"""Controller's side of preflight: what keeps a module from running on the host at all, and the host's clock."""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

Problem = dict[str, str]


def unreachable(address: str, user: str, detail: str) -> Problem:
    return {
        "check": "ssh",
        "found": f"no ssh session as {user} at {address}: {detail}",
        "wanted": "a host that answers ssh with the key of the inventory",
        "remedy": f"try `ssh {user}@{address}` from here; start the host, or correct ansible_host, ansible_user "
        "or the key in the inventory",
    }


def not_runnable(user: str, detail: str) -> Problem:
    """The session stands, the module did not run: no sudo, or no Python."""
    if re.search(r"sudo|password|become|privilege", detail, re.IGNORECASE):
        return {
            "check": "sudo",
            "found": f"{user} cannot become root: {detail}",
            "wanted": "root through sudo without a password, or with the one given by --ask-become-pass",
            "remedy": "on the host, as root: install sudo and write "
            f"`{user} ALL=(ALL) NOPASSWD:ALL` to /etc/sudoers.d/{user}",
        }
    if re.search(r"python|interpreter|not found", detail, re.IGNORECASE):
        return {
            "check": "python",
            "found": f"no usable Python on the host: {detail}",
            "wanted": "Python 3.10 or newer as /usr/bin/python3",
            "remedy": "on the host, as root: apt-get install python3",
        }
    return {
        "check": "module",
        "found": f"the check did not run on the host: {detail}",
        "wanted": "a host on which a Python module runs as root",
        "remedy": "run again with -vvv and look at the first error",
    }


def clock(offset_low: float, offset_high: float, limit: float) -> list[Problem]:
    """The host's clock is between low and high seconds ahead of ours; refused when all of that is out of bounds."""
    if -limit <= offset_high and offset_low <= limit:
        return []
    offset = offset_low if offset_low > limit else offset_high
    return [
        {
            "check": "clock",
            "found": f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine",
            "wanted": f"at most {limit:g} s of difference (certificates, logs and limits per minute compare times)",
            "remedy": "find out with `timedatectl` which of the two is wrong, and let chrony correct it; "
            "the clock of a container is its host's",
        }
    ]


def message(host: str, problems: list[Problem]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{host}: {count} found before anything was changed."]
    for entry in problems:
        lines.append(f"- {entry['check']}: found {entry['found']}; wanted {entry['wanted']}. To do: {entry['remedy']}.")
    return "\n".join(lines)


class ActionModule(ActionBase):  # type: ignore[misc]
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        limit = float(arguments.pop("max_clock_offset_seconds"))
        host = str(variables.get("inventory_hostname", self._play_context.remote_addr))
        address = str(variables.get("ansible_host", host))
        user = str(variables.get("ansible_user") or self._play_context.remote_user or "the current user")

        begin = time.time()
        problems: list[Problem] = []
        try:
            answer = self._execute_module("rackserve_preflight", module_args=arguments, task_vars=variables)
        except AnsibleConnectionFailure as error:
            problems.append(unreachable(address, user, one_line(str(error))))
        except AnsibleError as error:
            problems.append(not_runnable(user, one_line(str(error))))
        else:
            end = time.time()
            if answer.get("unreachable"):
                problems.append(unreachable(address, user, one_line(str(answer.get("msg", "")))))
            elif "problems" not in answer:
                detail = " ".join(str(answer.get(key, "")) for key in ("msg", "module_stderr", "module_stdout"))
                problems.append(not_runnable(user, one_line(detail)))
            else:
                problems += answer["problems"]
                problems += clock(answer["now"] - end, answer["now"] - begin, limit)
                result["facts"] = answer["facts"]

        result["changed"] = False
        if problems:
            # Only the message: Ansible prints all that is in a failed result, and the problems would stand there twice.
            result.pop("facts", None)
            result.update(failed=True, msg=message(host, problems))
        return result


def one_line(text: str) -> str:
    """ssh and sudo answer in several lines, the reason usually in the last."""
    return re.sub(r"\s+", " ", text).strip().rstrip(".")[:400]
