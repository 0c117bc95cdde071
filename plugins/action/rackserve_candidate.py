"""Renders templates/haproxy with the role's variables and hands the files to the module of the same name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Tasks run from a copy of this process, so the path is set where the package is needed.
_SCRIPTS = str(Path(__file__).resolve().parents[2] / "scripts")
if _SCRIPTS not in sys.path:
    sys.path.insert(0, _SCRIPTS)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """The controller's half: render here, where the templates are; check and swap there."""

    _supports_check_mode = True

    def _rendered(self, task_vars: dict[str, Any]) -> Mapping[str, Any]:
        """Variables by name, each rendered when it is asked for: the one with the certificate's key is named by the plan."""
        templar = self._templar

        class Rendered(dict[str, Any]):
            def __getitem__(self, name: str) -> Any:
                return templar.template(super().__getitem__(name))

        return Rendered(task_vars)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        from rackserve.fleet.certificates import pem_for
        from rackserve.fleet.haproxy_files import RenderError, origin_of, render

        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        node = str(task_vars["inventory_hostname"])
        names = [name for name in task_vars if name.startswith("haproxy_")]
        variables = {name: self._templar.template(task_vars[name]) for name in names}
        try:
            if not variables.get("haproxy_tls_pem"):
                variables["haproxy_tls_pem"] = pem_for(variables.get("haproxy_plan") or {}, self._rendered(task_vars))
            candidate = render(variables, node)
        except RenderError as error:
            return {
                **result,
                "failed": True,
                "msg": f"{node}: the configuration cannot be rendered; nothing was changed. {error}",
            }
        private = variables["haproxy_private_address"]
        address = "127.0.0.1" if private in ("*", "0.0.0.0") else private
        arguments = {
            **self._task.args,
            "files": {file.path: file.text for file in candidate.files if not file.secret},
            "secrets": {file.path: file.text for file in candidate.files if file.secret},
            "kept": {file.path: file.kept for file in candidate.files if file.kept},
            "digest": candidate.digest,
            "verify_url": f"http://{address}:{variables['haproxy_plan']['ports']['stats']}/healthz",
        }
        result.update(
            self._execute_module(module_name="rackserve_candidate", module_args=arguments, task_vars=task_vars, tmp=tmp)
        )
        if problems := result.get("problems"):
            text = candidate.text("haproxy.cfg")
            lines = [f"  {origin_of(text, problem['line'])}\n    {problem['message']}" for problem in problems]
            result["msg"] = "\n".join(
                [f"{node}: HAProxy refuses the candidate; the running configuration is untouched.", *lines]
            )
        return result
