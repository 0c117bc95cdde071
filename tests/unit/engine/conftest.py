"""Loads the node's own code (modules, their helpers, the launcher) as Ansible would find it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[3]


def load(path: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


for helper in ("rackserve_atomic", "rackserve_arguments", "rackserve_engine_unit", "rackserve_manifest"):
    load(f"plugins/module_utils/{helper}.py", f"ansible.module_utils.{helper}")
