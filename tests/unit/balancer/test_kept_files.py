"""A map that scripts write while HAProxy runs: the next candidate takes it over, unless it is spoiled."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rackserve.fleet.haproxy_files import KEPT, MAINTENANCE_MAP

REPOSITORY = Path(__file__).resolve().parents[3]
BEGIN = ""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """With ansible.module_utils.rackserve_atomic where Ansible would put it."""
    loaded = {}
    for name, path in (
        ("ansible.module_utils.rackserve_atomic", "plugins/module_utils/rackserve_atomic.py"),
        ("rackserve_candidate_module", "plugins/modules/rackserve_candidate.py"),
    ):
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / path)
        assert spec is not None
        assert spec.loader is not None
        loaded[name] = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded[name]
        spec.loader.exec_module(loaded[name])
    return loaded["rackserve_candidate_module"]


def candidate(module: ModuleType, root: Path) -> Any:
    kept = {MAINTENANCE_MAP: KEPT[MAINTENANCE_MAP]}
    files = {"haproxy.cfg": "global\n", MAINTENANCE_MAP: BEGIN}
    given = {"digest": "d", "files": files, "secrets": {}, "kept": kept, "directory": str(root), "service": "haproxy"}
    return module.Candidate(SimpleNamespace(params=given))


def live(root: Path, text: str) -> None:
    folder = root / "candidates/one/maps"
    folder.mkdir(parents=True)
    (folder / "maintenance.map").write_text(text)
    (root / "current").symlink_to("candidates/one")


@pytest.mark.parametrize("text", ["", "small 1764403200\n", "all 1764403200\nchat-2 99\n"])
def test_what_stands_there_stays(module: ModuleType, tmp_path: Path, text: str) -> None:
    live(tmp_path, text)
    assert candidate(module, tmp_path).files[MAINTENANCE_MAP] == text


@pytest.mark.parametrize("text", ["spoiled\n", "small soon\n", "small 1764403200\n\n", "Small 1\n", "small 1 2\n"])
def test_a_spoiled_one_begins_anew(module: ModuleType, tmp_path: Path, text: str) -> None:
    live(tmp_path, text)
    assert candidate(module, tmp_path).files[MAINTENANCE_MAP] == BEGIN


def test_the_first_candidate_has_it_empty(module: ModuleType, tmp_path: Path) -> None:
    assert candidate(module, tmp_path).files[MAINTENANCE_MAP] == BEGIN
