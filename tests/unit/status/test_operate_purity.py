"""What turns answers into snapshots, timelines and tables decides from what it is given: no host, file or clock within reach."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "scripts/rackserve"
PURE = [
    *(f"fleet/status/{name}.py" for name in ("snapshot", "view", "queries", "assemble", "show")),
    *(f"traffic_log/history/{name}.py" for name in ("stages", "latency", "timeline", "engine", "plot", "show")),
    *(f"fleet/drain/{name}.py" for name in ("sight", "decide")),
    "fleet/period.py",
]
EFFECTS = {"os", "pathlib", "socket", "subprocess", "sys", "time", "random", "secrets", "threading", "urllib", "httpx"}
CALLS = {"open", "print", "input", "now", "today", "utcnow"}


@pytest.mark.parametrize("name", PURE)
def test_it_imports_and_calls_nothing_with_effects(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} & EFFECTS == set()
    assert {"rackserve.fleet.ssh", "rackserve.fleet.balancers"} & modules == set()
    called = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    assert called & CALLS == set()


def test_fleet_knows_nothing_of_request_lines_meaning() -> None:
    """The direction of knowledge: traffic_log and slo know the fleet, never the other way."""
    for path in sorted((PACKAGE / "fleet").rglob("*.py")):
        modules = [
            str(node.module) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        later = [
            name for name in modules if name.startswith(("rackserve.traffic_log", "rackserve.slo", "rackserve.alerts"))
        ]
        assert later == [], path
