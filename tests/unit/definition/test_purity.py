"""The rules read no file, clock or network: a pure module imports only pure ones, and nothing that can do I/O."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
PACKAGE = SCRIPTS / "rackserve/definition"
# These talk to Ansible or to files; everything else has to be pure.
EFFECTS = {f"rackserve.definition.{name}" for name in ("load", "files", "vault", "collect")}
LIBRARIES = {"collections.abc", "collections", "dataclasses", "difflib", "hashlib", "ipaddress", "itertools", "re"}
LIBRARIES |= {"textwrap", "types", "typing", "pydantic", "pydantic.fields", "pydantic_core"}
FILES = {
    ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PURE = sorted(set(FILES) - EFFECTS)


def imports(tree: ast.AST) -> set[str]:
    """Full names of what a module imports; `from package import module` counts as package.module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= below or {str(node.module)}
    return found


@pytest.mark.parametrize("module", PURE)
def test_pure_module_imports_pure_modules_and_calls_no_io(module: str) -> None:
    tree = ast.parse(FILES[module].read_text())
    assert imports(tree) - LIBRARIES - set(PURE) == set()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & {"open", "print", "input", "eval", "exec", "__import__"} == set()


@pytest.mark.parametrize("module", sorted(EFFECTS))
def test_the_rule_would_notice_a_module_with_effects(module: str) -> None:
    assert imports(ast.parse(FILES[module].read_text())) - LIBRARIES - set(PURE) != set()


def test_the_validator_loads_neither_ansible_nor_yaml() -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import rackserve.definition.outcome; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"ansible", "yaml", "httpx", "typer", "rich"} & set(done.stdout.split()) == set()
