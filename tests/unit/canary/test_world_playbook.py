"""A playbook beside the loop: what its end means, and that there is one at a time, also across controllers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rackserve.canary.run.world import DONE, Ended
from rackserve.canary.world.playbook import command, free, play, started, why
from rackserve.canary.world.site import Access

FATAL = """
TASK [vllm : Restart the engines that run with something else] *****************
fatal: [gpu4]: FAILED! =>
    changed: true
    msg: |-
        engine chat-gpu4 does not answer with release chat-6:
        ValueError: no such flag
        Release chat-5 was put back and answers again.
    pending: []

PLAY RECAP *********************************************************************
gpu4 : ok=12 changed=3 unreachable=0 failed=1
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(("code", "kind"), [(0, Ended.DONE), (2, Ended.FAILED), (4, Ended.UNDONE)])
def test_a_failed_task_is_a_failure_and_a_lost_node_may_come_back(tmp_path: Path, code: int, kind: Ended) -> None:
    found = play(tmp_path / "lock", python(f"print('the last line'); raise SystemExit({code})"), 30)
    assert found.kind is kind
    assert kind is Ended.DONE or "the last line" in found.reason


def test_it_is_bounded_in_time_and_then_gone(tmp_path: Path) -> None:
    found = play(tmp_path / "lock", python("import time; time.sleep(60)"), 0.5)
    assert (found.kind, "not within 0.5 s" in found.reason) == (Ended.FAILED, True)
    assert free(tmp_path / "lock")


def test_one_that_outlives_its_controller_keeps_the_next_from_beginning(tmp_path: Path) -> None:
    lock, left = tmp_path / "lock", list[subprocess.Popen[str]]()

    def begin(words: list[str], handle: int) -> "subprocess.Popen[str]":
        left.append(started(words, handle))
        raise InterruptedError  # the controller ends here

    play(lock, python("input()"), 30, lambda words, handle: begin(["sleep", "60"], handle))
    assert not free(lock)
    assert play(lock, python(""), 30).kind is Ended.UNDONE
    left[0].kill()
    left[0].communicate()
    assert play(lock, python(""), 30) == DONE


def test_the_message_of_the_first_task_that_failed_is_told() -> None:
    assert why(FATAL).startswith(
        "engine chat-gpu4 does not answer with release chat-6: ValueError: no such flag Release chat-5"
    )
    assert "pending" not in why(FATAL)
    assert why("") == "it said nothing"


def test_it_is_what_an_operator_would_type(tmp_path: Path) -> None:
    words = command(Access(tmp_path, ("prod@prompt",), (tmp_path / "pass",)), "chat-gpu4", "chat-6", start=True)
    assert words[1:5] == ["--inventory", str(tmp_path), "--vault-id", "prod@prompt"]
    given = json.loads(words[words.index("--extra-vars") + 1])
    assert given == {"release_engine": "chat-gpu4", "release_name": "chat-6", "release_start": True}
    assert Path(words[-1]).name == "release.yml"
    assert Path(words[-1]).exists()
