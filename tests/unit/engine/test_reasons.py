"""What an operator reads when an engine did not start. The logs are recorded from vLLM 0.32.0, shortened."""

from __future__ import annotations

from types import ModuleType

import pytest

from .conftest import load

OUT_OF_MEMORY = """\
engine small: release small-4, /opt/rackserve/environments/x/bin/vllm serve /opt/rackserve/models/tiny/1
(EngineCore pid=17483) INFO 11-24 06:35:45 [core.py:133] Initializing a V1 LLM engine (v0.32.0)
(Worker pid=17516) ERROR 11-24 06:35:56 [multiproc_executor.py:1063] Traceback (most recent call last):
(Worker pid=17516) ERROR 11-24 06:35:56 [multiproc_executor.py:1063] ValueError: Available memory on node 0 (15.19/23.54 \
GiB) on kv cache allocation is less than requested memory for kv (4000.0 GiB).
(EngineCore pid=17483) ERROR 11-24 06:35:56 [core.py:900] Exception: WorkerProc initialization failed due to an exception
(APIServer pid=17360) ERROR 11-24 06:35:57 [async_llm.py:906] RuntimeError: Engine core initialization failed. See root \
cause above. Failed core proc(s): {}
engine small: vLLM ended before it answered"""

BAD_CONFIG = """\
(APIServer pid=2183) Traceback (most recent call last):
(APIServer pid=2183) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=2183)   Value error, User-specified max_model_len (200000) is greater than the derived max_model_len (4096)
engine small: vLLM ended before it answered"""

PORT_TAKEN = """\
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) OSError: [Errno 98] Address already in use
engine small: vLLM ended before it answered"""

SYSTEMD = [
    "Starting vllm@small.service - vLLM engine small...",
    "vllm@small.service: Control process exited, code=exited, status=1/FAILURE",
    "vllm@small.service: Failed with result 'exit-code'.",
]


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    return load("roles/vllm/files/engine.py", "engine_launcher")


def told(launcher: ModuleType, log: str) -> list[str]:
    lines = [launcher.PREFIX.sub("", line).rstrip() for line in log.splitlines()]
    found: list[str] = launcher.reasons(lines, SYSTEMD)
    return found


@pytest.mark.parametrize(
    ("log", "first"),
    [
        (OUT_OF_MEMORY, "ValueError: Available memory on node 0"),
        (BAD_CONFIG, "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"),
        (PORT_TAKEN, "OSError: [Errno 98] Address already in use"),
    ],
)
def test_the_cause_comes_first(launcher: ModuleType, log: str, first: str) -> None:
    assert told(launcher, log)[0].startswith(first)


def test_echoes_of_the_cause_are_left_out(launcher: ModuleType) -> None:
    assert not [line for line in told(launcher, OUT_OF_MEMORY) if "See root cause" in line or "WorkerProc init" in line]


def test_the_detail_of_a_validation_error_is_kept(launcher: ModuleType) -> None:
    assert "max_model_len (200000) is greater" in told(launcher, BAD_CONFIG)[1]


def test_our_own_word_and_systemds_verdict_end_it(launcher: ModuleType) -> None:
    assert told(launcher, PORT_TAKEN)[1:] == ["engine small: vLLM ended before it answered", *SYSTEMD[1:]]


def test_a_crash_without_a_word_is_told_by_systemd_not_by_the_last_statistics(launcher: ModuleType) -> None:
    log = ["engine small: release small-1 answered after 24 s", "Engine 000: Avg prompt throughput: 0.3 tokens/s"]
    killed = "vllm@small.service: Main process exited, code=killed, status=9/KILL"
    assert launcher.reasons(log, ["Started vllm@small.service", killed]) == [killed]


def test_without_an_exception_the_last_lines_are_shown(launcher: ModuleType) -> None:
    assert told(launcher, "loading\nstill loading\nKilled")[:3] == ["loading", "still loading", "Killed"]
