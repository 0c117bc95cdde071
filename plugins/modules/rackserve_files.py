#!/usr/bin/python
"""Many small files and directories in one round trip; Ansible's own modules take one or two for each."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_files
short_description: Keep many small files and directories as described, in one round trip
description:
  - Does what M(ansible.builtin.copy) with O(ignore:content) and M(ansible.builtin.file) do, for a list.
  - Each file is replaced by rename, so that nobody reads half of one. Truthful in check mode and with C(--diff).
options:
  entries:
    description: The files and directories, parents before their content.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description: V(absent) removes a file; a directory is removed only when it is empty.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description: The whole file. Required for V(file).
        type: str
      mode:
        description: Octal, as a string. Default V(0644) for files, V(0755) for directories.
        type: str
      owner:
        description: Name of a user.
        type: str
        default: root
      group:
        description: Name of a group.
        type: str
        default: root
  accept:
    description:
      - The program that will read the files judges them first. If one below O(accept.directory) differs, all of them are written
        into an empty directory with the same relative paths and the command runs there; if it refuses, nothing is changed.
      - In check mode on a host that does not have the program yet, nobody judges.
    type: dict
    suboptions:
      directory:
        description: Where the program reads the files when it runs.
        type: path
        required: true
      command:
        description: Exit code 0 accepts.
        type: list
        elements: str
        required: true
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Configure the daemon
  rackserve_files:
    entries:
      - {path: /etc/demo, state: directory}
      - {path: /etc/demo/demo.conf, content: "{{ lookup('ansible.builtin.template', 'demo.conf.j2') }}"}
  register: __demo_files
  notify: Reload demo

- name: Configure the monitor once promtool accepts the configuration
  rackserve_files:
    entries:
      - {path: /etc/prometheus/prometheus.yml, content: "{{ lookup('ansible.builtin.template', 'prometheus.yml.j2') }}"}
    accept:
      directory: /etc/prometheus
      command: [promtool, check, config, prometheus.yml]
"""

RETURN = r"""
changed_paths:
  description: Those that were different.
  returned: always
  type: list
  elements: str
  sample: [/etc/demo/demo.conf]
"""

import grp  # noqa: E402
import os  # noqa: E402
import pwd  # noqa: E402
import stat  # noqa: E402
import tempfile  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

KIND = {"file": stat.S_ISREG, "directory": stat.S_ISDIR}


class Refused(Exception):
    """Something stands in the way that must not be removed silently."""


def describe(path: str) -> dict[str, Any] | None:
    """What is at the path now; links are not followed, a link in place of a file is replaced by the file."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    content = None
    if stat.S_ISREG(info.st_mode):
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    return {
        "mode": stat.S_IMODE(info.st_mode),
        "owner": info.st_uid,
        "group": info.st_gid,
        "content": content,
        "type": info.st_mode,
    }


def wanted(entry: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    try:
        owner, group = pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError as error:
        # In check mode the task before may only have said that it would create them.
        if not check_mode:
            raise Refused(f"{entry['path']}: {error.args[0]} on this host; create it first") from error
        owner = group = -1
    default = "0755" if entry["state"] == "directory" else "0644"
    try:
        mode = int(entry["mode"] or default, 8)
    except ValueError as error:
        raise Refused(f'{entry["path"]}: mode is {entry["mode"]!r}; octal digits such as "0640" are allowed') from error
    return {
        "mode": mode,
        "owner": owner,
        "group": group,
        "content": entry["content"] if entry["state"] == "file" else None,
    }


def differs(entry: dict[str, Any], now: dict[str, Any] | None, target: dict[str, Any]) -> bool:
    if now is None:
        return True
    if not KIND[entry["state"]](now["type"]):
        if stat.S_ISDIR(now["type"]) or entry["state"] == "directory":
            raise Refused(
                f"{entry['path']} should be a {entry['state']} and is something else. Look at it and move it away."
            )
        return True
    return any(now[key] != target[key] for key in ("mode", "owner", "group", "content"))


def write(entry: dict[str, Any], target: dict[str, Any]) -> None:
    path = entry["path"]
    if entry["state"] == "directory":
        if not os.path.isdir(path):
            os.mkdir(path)
        os.chown(path, target["owner"], target["group"])
        os.chmod(path, target["mode"])
        return
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".rackserve-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(target["content"])
            file.flush()
            os.fsync(file.fileno())
        os.chown(temporary, target["owner"], target["group"])
        os.chmod(temporary, target["mode"])
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def refusal(module: AnsibleModule, entries: list[dict[str, Any]], accept: dict[str, Any]) -> str:
    """What the program that will read the files says against them; empty: nothing."""
    root, command = accept["directory"], accept["command"]
    files = [one for one in entries if one["state"] == "file" and one["path"].startswith(f"{root}/")]
    if all((describe(one["path"]) or {}).get("content") == one["content"] for one in files):
        return ""
    program = module.get_bin_path(command[0])
    if program is None:
        # In check mode the task before may only have said that it would install it.
        return "" if module.check_mode else f"{command[0]} is not on this host; install it first"
    with tempfile.TemporaryDirectory(prefix="rackserve-", dir=module.tmpdir) as directory:
        for one in files:
            path = os.path.join(directory, os.path.relpath(one["path"], root))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(one["content"] or "")
        status, out, error = module.run_command([program, *command[1:]], cwd=directory)
    said = f"{out.strip()}\n{error.strip()}".strip().replace(f"{directory}/", "")
    return "" if status == 0 else f"{' '.join(command)}: {said or f'exit code {status}'}"


def header(path: str, state: dict[str, Any] | None) -> str:
    return f"{path} ({state['mode']:04o}, {state['owner']}:{state['group']})" if state else f"{path} (absent)"


def apply(entry: dict[str, Any], check_mode: bool) -> dict[str, str] | None:
    """Puts one entry right; returns its diff, or None when it was right."""
    path, now = entry["path"], describe(entry["path"])
    if entry["state"] == "absent":
        if now is None:
            return None
        if not check_mode:
            (os.rmdir if stat.S_ISDIR(now["type"]) else os.unlink)(path)
        return {
            "before_header": header(path, now),
            "after_header": header(path, None),
            "before": now["content"] or "",
            "after": "",
        }
    if entry["state"] == "file" and entry["content"] is None:
        raise Refused(f"{path}: a file needs content")
    target = wanted(entry, check_mode)
    if not differs(entry, now, target):
        return None
    if not check_mode:
        write(entry, target)
    return {
        "before_header": header(path, now),
        "after_header": header(path, target),
        "before": (now or {}).get("content") or "",
        "after": target["content"] or "",
    }


def main() -> None:
    options = {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
        "content": {"type": "str"},
        "mode": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "entries": {"type": "list", "elements": "dict", "required": True, "options": options},
            "accept": {
                "type": "dict",
                "options": {
                    "directory": {"type": "path", "required": True},
                    "command": {"type": "list", "elements": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    if module.params["accept"] and (said := refusal(module, module.params["entries"], module.params["accept"])):
        module.fail_json(msg=f"The new files are refused; nothing was changed. {said}")
    changed: list[str] = []
    diffs: list[dict[str, str]] = []
    for entry in module.params["entries"]:
        try:
            diff = apply(entry, module.check_mode)
        except (OSError, Refused) as error:
            module.fail_json(msg=f"{error}", changed=bool(changed), changed_paths=changed, diff=diffs)
        if diff is not None:
            changed.append(entry["path"])
            diffs.append(diff)
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=diffs)


if __name__ == "__main__":
    main()
