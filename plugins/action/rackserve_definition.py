"""First task of site.yml: validates the service definition and resolves it into the plan. Touches no host."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

DOCUMENTATION = r"""
module: rackserve_definition
short_description: Validate the service definition and resolve it into a plan
description:
  - Reads the variables C(service_*) and C(node_*) of all hosts in the groups balancers, gpu_nodes and monitors,
    whatever C(--limit) says, and checks them with the code that C(scripts/validate) uses. Contacts no host.
  - Fails with every problem at once. Otherwise the result is the plan, so the task registers it as C(service_plan).
    C(service_plan.monitoring) has what watches it, rules, targets and the settings of the log service.
    It is registered rather than set as a fact because facts are not injected as variables in this project.
"""
EXAMPLES = r"""
- name: Validate the definition and resolve it into a plan
  rackserve_definition:
  run_once: true
  register: service_plan
"""

_SCRIPTS = str(Path(__file__).resolve().parents[2] / "scripts")
if _SCRIPTS not in sys.path:
    sys.path.insert(0, _SCRIPTS)


class _HostvarsView:
    """The inventory as a running play sees it."""

    def __init__(self, hostvars: Any, groups: Mapping[str, Sequence[str]]) -> None:
        self._hostvars, self._groups = hostvars, groups
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._rendering: dict[str, Any] = {}

    def groups(self) -> Mapping[str, Sequence[str]]:
        return {str(name): [str(host) for host in hosts] for name, hosts in self._groups.items()}

    def raw(self, host: str) -> Mapping[str, Any]:
        if host not in self._raw:
            self._raw[host] = self._hostvars.raw_get(host)
        return self._raw[host]

    def render(self, host: str, value: Any) -> Any:
        if host not in self._rendering:
            self._rendering[host] = self._templar.copy_with_new_env(available_variables=self.raw(host))
        return self._rendering[host].template(value)

    def use(self, templar: Any) -> _HostvarsView:
        self._templar = templar
        return self


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Runs on the controller only."""

    _VALID_ARGS: frozenset[str] = frozenset()
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        # Imported here: the path above has to be set first, and a play without this task should not pay for pydantic.
        from rackserve.definition.collect import collect
        from rackserve.definition.files import scan, shared
        from rackserve.definition.outcome import validate
        from rackserve.monitoring import monitoring

        variables = task_vars or {}
        if not self._task.register:
            return {
                "failed": True,
                "msg": "rackserve_definition: the plan is the task's result; add `register: service_plan` to the task",
            }
        raw = collect(_HostvarsView(variables["hostvars"], variables["groups"]).use(self._templar))
        if directory := variables.get("inventory_dir"):
            files = scan(Path(str(directory)))
            doubled = tuple(problem for problem in files.problems if problem.path)
            places = {**files.places, **raw.places}
            raw = replace(
                raw,
                places=places,
                problems=(*doubled, *raw.problems),
                shared=shared(places, Path(str(directory))),
                source=str(directory),
            )
        here = f"{Path.cwd()}/"
        outcome = validate(raw)
        if outcome.plan is None or outcome.definition is None:
            count = len(outcome.problems)
            text = "\n".join(str(problem).replace(here, "") for problem in outcome.problems)
            return {
                "failed": True,
                "msg": f"The service definition has {count} problem{'s' * (count != 1)}; no host was touched.\n{text}",
            }
        return {"changed": False, **outcome.plan, "monitoring": monitoring(outcome.definition)}
