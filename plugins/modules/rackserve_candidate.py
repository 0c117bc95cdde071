#!/usr/bin/python
"""Puts a rendered HAProxy configuration in service: check, swap, reload, verify, prune. Standard library only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_candidate
short_description: Put a rendered HAProxy configuration in service
description:
  - Writes all files into a directory of their own, lets HAProxy check them there with their maps and certificates, and
    only then points C(current) to it in one step. A refused candidate leaves live files and running process alone.
  - Reloads a running HAProxy and never restarts it; starts it when it does not run. Then asks it which configuration it
    runs. When the new one does not come up, the previous one is put back.
  - The action plugin of the same name renders templates/haproxy and calls this module; tasks set no O(files).
  - In check mode the candidate is checked in a temporary directory, and nothing is left behind.
options:
  files:
    description: Paths below O(directory) and their content.
    type: dict
  secrets:
    description: The same for files whose content must not be shown.
    type: dict
  kept:
    description:
      - Which of O(files) others go on writing while the service runs, each with a regular expression for its lines.
      - What stands there stays; O(files) says how such a file begins, and what takes the place of one that has other lines.
    type: dict
    default: {}
  digest:
    description: What the private health path of a process with this configuration says in C(x-rackserve-configuration).
    type: str
  verify_url:
    description: The private health path.
    type: str
  directory:
    description: The configuration directory of HAProxy.
    type: path
    default: /etc/haproxy
  service:
    description: Name of the systemd unit.
    type: str
    default: haproxy
  keep:
    description: Previous candidates that stay on disk.
    type: int
    default: 5
  verify_seconds:
    description: The time the new configuration has to come up.
    type: int
    default: 30
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Put the configuration in service
  rackserve_candidate:
    directory: /etc/haproxy
    keep: 5
"""

RETURN = r"""
candidate:
  description: The directory of the live candidate; empty in check mode when it would be a new one.
  returned: success
  type: str
  sample: /etc/haproxy/candidates/20260801T120000-0123456789ab
problems:
  description: What HAProxy says against the candidate, by line of haproxy.cfg.
  returned: when the candidate is refused
  type: list
  elements: dict
  sample: [{line: 55, message: "unknown keyword 'foo'", text: "foo bar"}]
actions:
  description: What was done to the service.
  returned: success
  type: list
  elements: str
  sample: [reloaded]
"""

import contextlib  # noqa: E402
import grp  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import urllib.error  # noqa: E402
import urllib.request  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_atomic import (  # noqa: E402
    read_link,
    remove_tree,
    switch_link,
    write_atomic,
)

OLDEST = (2, 8)
CANDIDATE = re.compile(r"\d{8}T\d{6}-[0-9a-f]{12}(?:-\d+)?")
PROBLEM = re.compile(r"\[(?P<file>[^\]\s]*haproxy\.cfg):(?P<line>\d+)\]\s*:?\s*(?P<message>.*)")


def shown_text(path: Path) -> str:
    """For a diff: whatever is there, also bytes that are no text."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


class Candidate:
    def __init__(self, module: AnsibleModule) -> None:
        p = module.params
        self.module = module
        self.digest: str = p["digest"]
        self.files: dict[str, str] = {**p["files"], **p["secrets"]}
        self.secret = set(p["secrets"])
        self.root = Path(p["directory"])
        self.all = self.root / "candidates"
        self.current = self.root / "current"
        self.service: str = p["service"]
        for path, line in p["kept"].items():
            self.files[path] = self.standing(path, line)
        try:
            self.gid = grp.getgrnam("haproxy").gr_gid
        except KeyError:
            self.gid = 0

    # What is there

    def standing(self, path: str, line: str) -> str:
        """The file as others have left it, or how it begins where it is missing or spoiled."""
        try:
            text = (self.current / path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return self.files[path]
        whole = all(re.fullmatch(line, one) for one in text.splitlines())
        return text if whole else self.files[path]

    def links(self) -> dict[Path, str]:
        names = sorted({path.split("/", 1)[0] for path in self.files})
        return {self.root / name: f"current/{name}" for name in names}

    def mode(self, path: str) -> int:
        return 0o600 if path.startswith("certs/") else 0o640

    def live(self) -> bool:
        """Everything on disk is as it should be: every file, nothing beside them, and the links that lead there."""
        target = read_link(self.current)
        if target is None or any(read_link(link) != where for link, where in self.links().items()):
            return False
        live = self.root / target
        here = {str(path.relative_to(live)) for path in live.rglob("*") if path.is_symlink() or not path.is_dir()}
        return here == set(self.files) and all(self.right(live / path, path) for path in self.files)

    def right(self, path: Path, name: str) -> bool:
        status = path.lstat()
        as_it_should_be = (self.mode(name), 0, self.gid)
        if path.is_symlink() or (status.st_mode & 0o7777, status.st_uid, status.st_gid) != as_it_should_be:
            return False
        return path.read_bytes() == self.files[name].encode()

    def differences(self) -> list[dict[str, str]]:
        """What changes, file by file, as it is on disk before and after. Secrets by name only."""
        before = {path: shown_text(self.root / path) for path in self.files}
        for folder in ("maps", "certs", "lua"):
            for path in (self.root / folder).rglob("*"):
                if not path.is_dir():
                    before.setdefault(str(path.relative_to(self.root)), shown_text(path))
        diff = []
        for name in sorted(before):
            after = self.files.get(name, "")
            if before[name] != after:
                hidden = name in self.secret or name.startswith("certs/")
                shown = (
                    {"before": "(secret)\n", "after": "(another secret)\n"}
                    if hidden
                    else {"before": before[name], "after": after}
                )
                diff.append({"before_header": str(self.root / name), "after_header": str(self.root / name), **shown})
        return diff

    # HAProxy's own opinion

    def require_version(self) -> bool:
        """False: HAProxy is not installed. Fails when it is too old."""
        binary = self.module.get_bin_path("haproxy", opt_dirs=["/usr/sbin", "/usr/local/sbin"])
        if binary is None:
            return False
        _, out, _ = self.module.run_command([binary, "-v"])
        found = re.search(r"version (\d+)\.(\d+)", out)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            self.module.fail_json(
                msg=f"{binary} says {out.strip()[:80]!r}; HAProxy {OLDEST[0]}.{OLDEST[1]} or newer is needed. Use "
                "Debian 13 or Ubuntu 24.04 for balancers, or install a newer HAProxy from the package source that "
                "Debian's HAProxy maintainers publish (haproxy.debian.net)."
            )
        return True

    def write(self, folder: Path) -> None:
        for path, text in self.files.items():
            write_atomic(folder / path, text, self.mode(path), self.gid)

    def check(self, folder: Path) -> None:
        """Lets HAProxy read the candidate where it lies. Fails with its words, by line."""
        status, out, error = self.module.run_command(
            ["haproxy", "-c", "-f", str(folder / "haproxy.cfg")], environ_update={"RACKSERVE_DIRECTORY": str(folder)}
        )
        text = out + error
        for line in text.splitlines():
            # What it says about servers comes from the saved state of the running process, not from the candidate.
            if line.startswith("[WARNING]") and not re.search(r" : (?:Server|backend) |server state file", line):
                self.module.warn(f"haproxy -c: {line.split(' : ', 1)[-1]}")
        if status == 0:
            return
        lines = self.files["haproxy.cfg"].splitlines()
        problems = []
        for line in text.splitlines():
            if (match := PROBLEM.search(line)) and line.startswith("[ALERT]"):
                number = int(match["line"])
                at = lines[number - 1].strip() if 0 < number <= len(lines) else ""
                problems.append({"line": number, "message": match["message"], "text": at})
        raw = "\n".join(line for line in text.splitlines() if not line.startswith("[NOTICE]"))
        raw = raw.replace(str(folder), str(self.root))
        self.refuse(f"HAProxy refuses the candidate; nothing was changed.\n{raw}", problems=problems)

    def refuse(self, message: str, **details: Any) -> NoReturn:
        raise Refused(message, details)

    # The moves

    def swap(self, folder: Path) -> str | None:
        """Makes the checked candidate the live one. Returns what `current` pointed to before."""
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{self.digest}"
        number = 1
        while (self.all / name).exists():
            number += 1
            name = f"{name.split('-')[0]}-{self.digest}-{number}"
        folder.rename(self.all / name)
        previous: str | None = read_link(self.current)
        self.keep_foreign()
        if self.current.is_dir() and not self.current.is_symlink():
            remove_tree(self.current)
        switch_link(self.current, f"candidates/{name}")
        for link, where in self.links().items():
            if link.is_dir() and not link.is_symlink():
                remove_tree(link)
            switch_link(link, where)
        return previous

    def keep_foreign(self) -> None:
        """A configuration that was here before us is somebody's work."""
        live, kept = self.root / "haproxy.cfg", self.root / "haproxy.cfg.before-rackserve"
        if live.is_file() and not live.is_symlink() and not kept.exists() and not self.current.is_symlink():
            shutil.copy2(live, kept)

    def systemctl(self, *words: str) -> tuple[int, str]:
        status, out, error = self.module.run_command(["systemctl", *words])
        return status, (out + error).strip()

    def state(self) -> dict[str, str]:
        _, out = self.systemctl("show", self.service, "--property=UnitFileState,ActiveState,NeedDaemonReload")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def running_digest(self) -> str:
        """The configuration that the serving worker has loaded; empty when it does not say."""
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
            request = urllib.request.Request(self.module.params["verify_url"])
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=2) as answer:
                return str(answer.headers.get("x-rackserve-configuration", ""))
        return ""

    def up(self) -> bool:
        end = time.monotonic() + self.module.params["verify_seconds"]
        while self.running_digest() != self.digest:
            if time.monotonic() > end or self.state()["ActiveState"] == "failed":
                return False
            time.sleep(0.1)
        return True

    def activate(self, state: dict[str, str]) -> str:
        """Reloads or starts; returns the verb. Raises Refused with HAProxy's words when systemd reports a failure."""
        if state["ActiveState"] == "active":
            verb = "reload"
        else:
            verb = "start"
            self.systemctl("reset-failed", self.service)
        status, said = self.systemctl(verb, self.service)
        if status != 0 or not self.up():
            self.refuse(
                f"After systemctl {verb} {self.service}, {self.module.params['verify_url']} does not answer with the "
                f"configuration {self.digest} within {self.module.params['verify_seconds']} s (running: "
                f"{self.running_digest() or 'no answer'}). {said}\nIt said last:\n{self.journal()}"
            )
        return {"reload": "reloaded", "start": "started"}[verb]

    def journal(self) -> str:
        """What HAProxy and systemd said last; alerts alone where there are some."""
        command = ["journalctl", "--no-pager", "--lines=40", "--output=cat", "--unit", self.service]
        _, out, _ = self.module.run_command(command)
        lines = [line for line in out.splitlines() if not line.startswith("{")]
        alerts = [line for line in lines if line.startswith("[ALERT]") and " has no server available" not in line]
        return "\n".join(alerts or lines[-15:])

    def prune(self, previous: str | None) -> None:
        live = Path(os.path.realpath(self.current)).name
        # A directory with our digest but another content was tampered with: of no use for going back.
        if previous and previous.endswith(f"-{self.digest}") and Path(previous).name != live:
            remove_tree(self.root / previous)
        old = sorted(path.name for path in self.all.iterdir() if CANDIDATE.fullmatch(path.name) and path.name != live)
        for name in old[: max(len(old) - self.module.params["keep"], 0)]:
            remove_tree(self.all / name)
        for left in self.all.glob(".*"):
            remove_tree(left)


class Refused(Exception):
    """The candidate or the service said no."""

    def __init__(self, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.details = details


def check_only(candidate: Candidate) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rackserve-candidate-"))
    try:
        candidate.write(folder)
        candidate.check(folder)
    finally:
        shutil.rmtree(folder)


def install(candidate: Candidate) -> str | None:
    candidate.all.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=candidate.all))
    folder.chmod(0o755)
    try:
        candidate.write(folder)
        candidate.check(folder)
        return candidate.swap(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(candidate: Candidate, state: dict[str, str], changed: bool, previous: str | None) -> list[str]:
    """Brings the service to the configuration on disk. A failure puts the previous configuration back."""
    actions = []
    if state["NeedDaemonReload"] == "yes":
        candidate.systemctl("daemon-reload")
    if state["UnitFileState"] != "enabled":
        status, said = candidate.systemctl("enable", "--quiet", candidate.service)
        if status != 0:
            candidate.refuse(f"systemctl enable {candidate.service} failed: {said}")
        actions.append("enabled")
    if changed or state["ActiveState"] != "active" or candidate.running_digest() != candidate.digest:
        try:
            actions.append(candidate.activate(state))
        except Refused as refusal:
            if changed and previous and (candidate.root / previous).is_dir():
                switch_link(candidate.current, previous)
                candidate.systemctl(
                    "reload-or-restart" if state["ActiveState"] != "active" else "reload", candidate.service
                )
                candidate.refuse(f"{refusal}\nThe previous configuration {previous} is in place again.")
            raise
    return actions


def would(candidate: Candidate, state: dict[str, str], changed: bool) -> list[str]:
    actions = [] if state.get("UnitFileState") == "enabled" else ["enabled"]
    if state.get("ActiveState") != "active":
        return [*actions, "started"]
    return [*actions, "reloaded"] if changed or candidate.running_digest() != candidate.digest else actions


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict"},
            "secrets": {"type": "dict", "no_log": True},
            "kept": {"type": "dict", "default": {}},
            "digest": {"type": "str"},
            "verify_url": {"type": "str"},
            "directory": {"type": "path", "default": "/etc/haproxy"},
            "service": {"type": "str", "default": "haproxy"},
            "keep": {"type": "int", "default": 5},
            "verify_seconds": {"type": "int", "default": 30},
        },
        required_together=[["files", "secrets", "digest", "verify_url"]],
        supports_check_mode=True,
    )
    if module.params["files"] is None:
        module.fail_json(msg="Call rackserve_candidate as a task: its action plugin renders the files.")
    candidate = Candidate(module)
    changed = not candidate.live()
    diff = candidate.differences() if changed else []
    try:
        installed = candidate.require_version()
        if not installed and not module.check_mode:
            module.fail_json(msg="HAProxy is not installed. Install the package before its configuration.")
        if module.check_mode:
            if changed and installed:
                check_only(candidate)
            actions = would(candidate, candidate.state(), changed)
            folder = "" if changed else os.path.realpath(candidate.current)
            module.exit_json(changed=changed or bool(actions), diff=diff, actions=actions, candidate=folder)
        previous = install(candidate) if changed else read_link(candidate.current)
        actions = serve(candidate, candidate.state(), changed, previous)
        if changed:
            candidate.prune(previous)
    except Refused as refusal:
        module.fail_json(msg=str(refusal), **refusal.details)
    module.exit_json(
        changed=changed or bool(actions), diff=diff, actions=actions, candidate=os.path.realpath(candidate.current)
    )


if __name__ == "__main__":
    main()
