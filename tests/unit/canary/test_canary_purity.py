"""What judges and what draws decides from what it is given: no host, file, clock or chance within reach."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "scripts/rackserve/canary"
# These ask engines or touch files; everything else beside them has to be pure.
EFFECTS = {"quality/ask.py", "quality/read.py", "smoke/run.py", "report/write.py"}
ROOMS = ("judge", "quality", "smoke", "report")
MODULES = sorted(str(path.relative_to(PACKAGE)) for room in ROOMS for path in (PACKAGE / room).glob("*.py"))
FORBIDDEN = {
    "os",
    "pathlib",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "time",
    "random",
    "secrets",
    "tempfile",
    "threading",
}
FORBIDDEN |= {"asyncio", "urllib", "httpx", "yaml", "logging"}
CALLS = {"open", "print", "input", "now", "today", "utcnow"}


def touches(name: str) -> set[str]:
    """What a module imports or calls that has effects."""
    tree = ast.parse((PACKAGE / name).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    within = {f"{name.removeprefix('rackserve.canary.').replace('.', '/')}.py" for name in modules} & EFFECTS
    return ({module.split(".")[0] for module in modules} & FORBIDDEN) | (called & CALLS) | within


@pytest.mark.parametrize("name", [name for name in MODULES if name not in EFFECTS])
def test_it_imports_and_calls_nothing_with_effects(name: str) -> None:
    assert touches(name) == set()


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_the_rule_would_notice_a_module_with_effects(name: str) -> None:
    assert touches(name) != set()


@pytest.mark.parametrize("name", MODULES)
def test_rooms_beside_each_other_do_not_know_each_other(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text())
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    known = {module.split(".")[2] for module in modules if module.startswith("rackserve.canary.")}
    assert known <= {name.split("/")[0]}
