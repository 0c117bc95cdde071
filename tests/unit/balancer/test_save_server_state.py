"""What is carried over a reload: the state of servers that are still the same servers."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "roles/haproxy/files/save_server_state.py"
# Recorded from HAProxy 3.0.11, columns that matter here and their neighbours.
HEADER = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port"
CONFIGURATION = """
global
    node lb1
backend engines
    server e1 192.0.2.1:8001 inter 2000ms
    server e2 192.0.2.2:8009
backend pool-small-stable
    server e1 192.0.2.1:8001 track engines/e1
"""


@pytest.fixture
def saver() -> ModuleType:
    spec = importlib.util.spec_from_file_location("save_server_state", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_servers_with_their_configured_address_are_kept(saver: ModuleType) -> None:
    kept = "9 engines 1 e1 192.0.2.1 0 8 8001"
    tracked = "3 pool-small-stable 1 e1 192.0.2.1 0 16 8001"
    moved = "9 engines 2 e2 192.0.2.2 0 0 8001"
    removed = "4 pool-old-stable 1 e1 192.0.2.1 2 0 8001"
    state = "\n".join(["1", HEADER, kept, tracked, moved, removed, ""])
    assert saver.still_valid(state, saver.configured(CONFIGURATION)) == f"1\n{HEADER}\n{kept}\n{tracked}\n"


@pytest.mark.parametrize("answer", ["", "Permission denied\n", "1\nno header\n"])
def test_an_answer_that_is_no_state_is_not_written(saver: ModuleType, answer: str) -> None:
    with pytest.raises(ValueError, match="unexpected answer"):
        saver.still_valid(answer, {})


def test_without_a_running_process_the_old_file_stays(
    saver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    state.write_text("old")
    (tmp_path / "cfg").write_text(CONFIGURATION)
    monkeypatch.setattr("sys.argv", ["saver", str(tmp_path / "no.sock"), str(state), str(tmp_path / "cfg")])
    assert saver.main() == 1
    assert state.read_text() == "old"
    assert "every engine counts as up until it is checked" in capsys.readouterr().err
