"""scripts/render, run as an operator runs it."""

import json
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "scripts/render"), "haproxy", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


def test_it_prints_the_configuration_of_the_first_balancer() -> None:
    result = run("-i", "inventory/lab")
    assert result.returncode == 0, result.stderr
    assert "    node lb1\n" in result.stdout
    assert "backend pool-small-canary\n" in result.stdout


def test_it_prints_the_balancer_and_the_map_asked_for() -> None:
    assert "    node lb2\n" in run("--node", "lb2").stdout
    assert "large+small/chat small\n" in run("--map", "routes").stdout


def test_secrets_are_hidden_unless_asked_for(tmp_path: Path) -> None:
    hidden = json.loads(run("--json").stdout)
    assert hidden["files"]["maps/engine_keys.map"] == "large ********\nsmall ********\n"
    result = run("--output", str(tmp_path), "--with-secrets")
    assert result.returncode == 0, result.stderr
    written = tmp_path / "maps/engine_keys.map"
    assert "********" not in written.read_text()
    assert written.stat().st_mode & 0o777 == 0o600
    key = written.read_text().split()[1]
    assert key not in json.dumps(hidden)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--map", "nothing"], "there is no map nothing. Known: catalogs, configuration, engine_keys,"),
        (["--node", "gpu1"], "gpu1 is not a balancer of inventory/lab. Known: lb1, lb2."),
        (["-i", "inventory/nowhere"], "inventory/nowhere"),
        (["--output", "/proc/nowhere"], "cannot write /proc/nowhere"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(arguments: list[str], expected: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
