"""Records of nodes, and the lock that keeps two commands apart."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rackserve.lab import state
from rackserve.lab.errors import LabError
from rackserve.lab.inventory import NodeSpec
from rackserve.lab.settings import Settings
from rackserve.lab.state import NodeRecord, exclusive

RECORD = NodeRecord(NodeSpec("lb1", "198.18.0.11", "debian-13", 4), "inventory/lab", "/bases/x", "ssh-ed25519 AAAA")


def _make(settings: Settings, record: NodeRecord) -> None:
    settings.node_directory(record.spec.name).mkdir(parents=True)
    state.save_record(settings, record)


def test_a_record_reads_back_as_it_was_written(settings: Settings) -> None:
    _make(settings, RECORD)
    assert state.load_records(settings) == {"lb1": RECORD}


def test_a_node_whose_making_was_cut_off_has_a_directory_and_no_record(settings: Settings) -> None:
    settings.node_directory("lb2").mkdir(parents=True)
    assert state.load_records(settings) == {}
    assert state.node_directories(settings) == {"lb2"}


@pytest.mark.parametrize("text", ["", "{}", '{"spec": {}}', "[1]", '{"spec": {"name": "lb1"'])
def test_a_damaged_record_is_named_with_the_way_out(settings: Settings, text: str) -> None:
    _make(settings, RECORD)
    state.record_path(settings, "lb1").write_text(text)
    with pytest.raises(LabError, match=r"lb1/node.json is damaged .* `scripts/lab down`"):
        state.load_records(settings)


def test_the_second_waits_for_the_first_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waiting = threading.Event()

    def told(text: str) -> None:
        said.append(text)
        waiting.set()

    def second() -> None:
        with exclusive(tmp_path / "lab", told):
            order.append("second")

    with exclusive(tmp_path / "lab", said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10), "the second never said that it waits"
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert len(said) == 1
    assert "waiting for `lab" in said[0]
    assert "since" in said[0]


def test_waiting_ends_with_an_error_that_names_the_holder(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lab", print), pytest.raises(LabError, match=r"still held by `lab.*after 0.3 s"):  # noqa: SIM117
        with exclusive(tmp_path / "lab", lambda text: None, deadline_seconds=0.3):
            pytest.fail("two hold the lock")


def test_the_lock_of_a_killed_command_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rackserve.lab.state import exclusive\n"
        "with exclusive(Path(sys.argv[1]), print): os.kill(os.getpid(), 9)"
    )
    scripts = Path(state.__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "lab"], env={"PYTHONPATH": str(scripts)}, check=False
    )
    assert killed.returncode == -9
    with exclusive(tmp_path / "lab", pytest.fail, deadline_seconds=1):
        pass


def test_a_lock_on_a_directory_that_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    inside: list[bool] = []
    waiting = threading.Event()

    def second() -> None:
        with exclusive(lab, lambda text: waiting.set()):
            inside.append((lab / "lock").exists())

    with exclusive(lab, print):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        (lab / "lock").unlink()
        lab.rmdir()
    thread.join(10)
    assert inside == [True]


def test_a_command_that_changed_nothing_leaves_no_directory(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lab", print):
        assert (tmp_path / "lab").is_dir()
    assert not (tmp_path / "lab").exists()


def test_known_hosts_list_each_node_by_address_and_name(settings: Settings) -> None:
    _make(settings, RECORD)
    (settings.state / "ssh").mkdir()
    state.write_known_hosts(settings)
    assert (settings.state / "ssh" / "known_hosts").read_text() == "198.18.0.11,lb1 ssh-ed25519 AAAA\n"
