"""What decides reads no clock, file or network; the probe knows no other package of ours."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "scripts/rackserve/health"
PURE = ("decide", "looks", "figures")
ALLOWED = {"collections.abc", "dataclasses", "enum", "math"} | {f"rackserve.health.{name}" for name in PURE}


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", PURE)
def test_what_decides_imports_no_effects(name: str) -> None:
    assert imports(PACKAGE / f"{name}.py") <= ALLOWED


def test_the_probe_knows_no_other_package_of_ours() -> None:
    for path in PACKAGE.glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("rackserve")}
        assert all(name.startswith("rackserve.health") or name == "rackserve.notify" for name in ours), path
