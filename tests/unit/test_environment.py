"""A script that cannot enter the project's Python environment says so in one line."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "scripts" / "rackserve" / "environment.py"


def test_an_environment_of_somebody_else_is_named_without_a_traceback(tmp_path: Path) -> None:
    script = tmp_path / "scripts" / "rackserve" / "validate"
    python = tmp_path / ".venv" / "bin" / "python"
    for file in (script, python):
        file.parent.mkdir(parents=True)
    script.write_text(SOURCE.read_text())
    python.write_text("not executable, for nobody")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr == f"validate: this user may not run {python}. Run validate as the user who made it, or as root.\n"
    )
