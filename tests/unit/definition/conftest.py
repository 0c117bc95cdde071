"""An inventory of its own for each test: the base, with what a case changes in it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

BASE = Path(__file__).parent / "base"
SHORT = {"hosts.yml": "hosts.yml", "service.yml": "group_vars/all/service.yml", "vault.yml": "group_vars/all/vault.yml"}
Edit = Mapping[str, Mapping[str, str]]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit], Path]:
    """Makes ./inventory from the base. An edit is file -> {old text: new text}; "" as old text appends to the file."""

    def make(edit: Edit) -> Path:
        monkeypatch.chdir(tmp_path)
        target = tmp_path / "inventory"
        shutil.copytree(BASE, target)
        for name, changes in edit.items():
            file = target / SHORT.get(name, name)
            text = file.read_text() if file.exists() else ""
            for old, new in changes.items():
                if old:
                    assert text.count(old) == 1, f"the case has to change one place of {name}: {old!r}"
                text = text.replace(old, new) if old else text + new
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Path("inventory")

    return make
