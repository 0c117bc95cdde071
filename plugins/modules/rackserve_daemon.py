#!/usr/bin/python
"""A daemon that runs with what its files say: started, restarted or reloaded only where the running process differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_daemon
short_description: Make the running process of a systemd unit agree with its files, and prove it
description:
  - Asks the running process, not the task before, so that a run which was killed between file and reload is made good by the next.
  - Enables and starts the unit. Restarts it only where its arguments differ, reloads it only where it has not taken the newest
    of O(files) yet, and waits until it answers and says that it took them.
  - Fails with the end of the unit's journal. In check mode it says what it would do.
options:
  name:
    description: Name of the unit with its suffix. Its process has to stay the main process and know reload.
    type: str
    required: true
  url:
    description: Page with the process's own metrics.
    type: str
    required: true
  arguments:
    description: The arguments that the process has to run with.
    type: list
    elements: str
    required: true
  files:
    description: What it reads at start and reload. Needs O(reload_metric).
    type: list
    elements: path
    default: []
  reload_metric:
    description: >-
      Begin of the names of the two metrics that tell whether and when the last reload succeeded (C(_successful) and
      C(_success_timestamp_seconds)).
    type: str
    default: ""
  lines:
    description: Lines that have to be on the page.
    type: list
    elements: str
    default: []
  wait_seconds:
    description: The time the process has to answer, and to take new files.
    type: int
    default: 60
  stale:
    description: The files were changed, or in check mode would be.
    type: bool
    default: false
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Run Prometheus with the configuration that is there
  rackserve_daemon:
    name: prometheus.service
    url: http://127.0.0.1:9090/metrics
    arguments: [--storage.tsdb.retention.time=45d]
    files: [/etc/prometheus/prometheus.yml]
    reload_metric: prometheus_config_last_reload
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: [reload]
"""

import os  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

POLL_SECONDS = 0.2
UP = ("active", "reloading")


class Page(NamedTuple):
    """What the process says about itself. `text` is None when it does not answer."""

    text: str | None
    successful: bool
    taken_at: float


def parse(text: str | None, metric: str) -> Page:
    """taken_at: unix seconds; 0 when the process has not read its files yet. Without a metric the page itself is all."""
    if text is None or not metric:
        return Page(text, text is not None, 0)
    values = dict(line.split(" ", 1) for line in text.splitlines() if line.startswith(f"{metric}_"))
    return Page(
        text,
        float(values.get(f"{metric}_successful", 0)) == 1,
        float(values.get(f"{metric}_success_timestamp_seconds", 0)),
    )


def has_taken(page: Page, newest: float, before: Page | None) -> bool:
    """The last successful load ended after the newest file was put in place, or after `before` was seen.

    The second holds where the clock was set back and the file is in the future.
    """
    loaded_since = before is not None and page.taken_at != before.taken_at
    return page.successful and (page.taken_at >= newest or loaded_since)


def decide(state: dict[str, str], running: list[str], wanted: list[str], taken: bool) -> list[str]:
    """What makes the process agree. A fresh process reads everything, so that a start needs no reload."""
    actions = [] if state["UnitFileState"] == "enabled" else ["enable"]
    if state["ActiveState"] not in UP:
        return [*actions, "start"]
    if running != wanted:
        return [*actions, "restart"]
    return actions if taken else [*actions, "reload"]


class Daemon:
    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.unit = module, module.params["name"]
        self.wait_seconds: int = module.params["wait_seconds"]

    def systemctl(self, *arguments: str) -> str:
        status, out, error = self.module.run_command(["systemctl", *arguments])
        if status != 0:
            self.fail(f"systemctl {' '.join(arguments)} failed: {error.strip() or out.strip()}")
        return str(out)

    def fail(self, text: str) -> None:
        _, out, _ = self.module.run_command(
            ["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", self.unit]
        )
        self.module.fail_json(msg=f"{text}\nLast lines of the journal of {self.unit}:\n{out.strip()}")

    def state(self) -> dict[str, str]:
        out = self.systemctl("show", self.unit, "--property=LoadState,UnitFileState,ActiveState,MainPID")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def arguments(self, process: str) -> list[str]:
        """Empty when the process has just ended."""
        try:
            with open(f"/proc/{process}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
                return file.read().rstrip("\0").split("\0")[1:]
        except OSError:
            return []

    def page(self) -> Page:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.module.params["url"], timeout=5) as answer:
                text = answer.read().decode(errors="replace")
        except (OSError, ValueError):
            text = None
        return parse(text, self.module.params["reload_metric"])

    def missing(self, page: Page, newest: float, before: Page | None) -> str:
        """Why the process is not what it should be; empty: it is."""
        if page.text is None:
            return f"{self.module.params['url']} does not answer"
        if self.module.params["reload_metric"] and not has_taken(page, newest, before):
            return "it goes on with the configuration that it had before"
        absent = [line for line in self.module.params["lines"] if line not in page.text.splitlines()]
        return f"its page lacks {', '.join(absent)}" if absent else ""

    def wait(self, newest: float, before: Page | None) -> None:
        deadline = time.monotonic() + self.wait_seconds
        while True:
            # For these units "activating" is the pause before systemd tries again.
            if self.state()["ActiveState"] not in UP:
                self.fail(f"{self.unit} does not stay up")
            page = self.page()
            reason = self.missing(page, newest, before)
            if not reason:
                return
            if before is not None and before.successful and page.text is not None and not page.successful:
                self.fail(f"{self.unit} refuses the new configuration and goes on with the one before")
            if time.monotonic() > deadline:
                self.fail(f"{self.unit}: after {self.wait_seconds} s {reason}")
            time.sleep(POLL_SECONDS)

    def first_page(self) -> Page:
        """A process that reads back its data after a start answers late: that is no reason to reload it."""
        deadline = time.monotonic() + self.wait_seconds
        while True:
            page = self.page()
            if page.text is not None and (page.taken_at > 0 or not self.module.params["reload_metric"]):
                return page
            if time.monotonic() > deadline or self.state()["ActiveState"] not in UP:
                return page
            time.sleep(POLL_SECONDS)


def agree(daemon: Daemon, wanted: list[str], files: list[str], metric: str, check_mode: bool) -> list[str]:
    """Does what is needed; returns it."""
    state = daemon.state()
    if state["LoadState"] == "not-found":
        if not check_mode:
            daemon.fail(f"{daemon.unit} is not on this host; install its package first")
        return ["enable", "start"]
    newest = max((os.stat(path).st_mtime for path in files if os.path.exists(path)), default=0.0)
    up = state["ActiveState"] in UP
    running = daemon.arguments(state["MainPID"]) if up else []
    before = daemon.first_page() if up and running == wanted else None
    taken = not metric or (before is not None and has_taken(before, newest, None))
    actions = decide(state, running, wanted, taken)
    if check_mode:
        return actions
    if "enable" in actions:
        daemon.systemctl("enable", "--quiet", daemon.unit)
    if state["ActiveState"] == "failed":
        # One that failed too often is not started by systemd any more.
        daemon.systemctl("reset-failed", daemon.unit)
    for action in actions:
        if action != "enable":
            daemon.systemctl(action, daemon.unit)
    if "restart" in actions or "start" in actions:
        before = Page(None, False, 0)
    daemon.wait(newest, before)
    after = daemon.arguments(daemon.state()["MainPID"])
    if after != wanted:
        daemon.fail(
            f"{daemon.unit} runs with {' '.join(after)}, wanted {' '.join(wanted)}: its unit does not read them"
        )
    return actions


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "arguments": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "reload_metric": {"type": "str", "default": ""},
            "lines": {"type": "list", "elements": "str", "default": []},
            "wait_seconds": {"type": "int", "default": 60},
            "stale": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given: dict[str, Any] = module.params
    actions = agree(Daemon(module), given["arguments"], given["files"], given["reload_metric"], module.check_mode)
    changed = bool(actions) or (module.check_mode and given["stale"])
    told = f"{given['name']}: {', '.join(actions) or 'take the changed files'}\n"
    headers = {"before_header": "running process", "after_header": "running process"}
    diff = [{**headers, "before": "", "after": told}] if changed else []
    module.exit_json(changed=changed, actions=actions, diff=diff)


if __name__ == "__main__":
    main()
