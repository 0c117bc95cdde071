"""scripts/logs and scripts/explain-latency, run as an operator runs them with an ssh that is played."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from unit.status.surroundings import REPOSITORY, Surroundings
from unit.traffic_log.making import line

ID = "1f0c7a52-9d1e-4c0a-8a3e-2f5d7b9e1c44"
EVERYBODY = ("198.18.0.11", "198.18.0.12", "198.18.0.21", "198.18.0.22")


def written(place: Surroundings, *lines: dict[str, Any]) -> None:
    """As HAProxy writes it: no spaces."""
    text = "".join(f"{json.dumps(json.loads(line(**one)), separators=(',', ':'))}\n" for one in lines)
    (place.requests / "default.0000000001.jsonl").write_text(text)


def place_of(folder: Path, script: str) -> Surroundings:
    made = Surroundings(folder, script)
    made.program("journalctl", "exit 1\n")
    return made


@pytest.fixture
def logs(tmp_path: Path) -> Surroundings:
    return place_of(tmp_path, "logs")


@pytest.fixture
def explain(tmp_path: Path) -> Surroundings:
    return place_of(tmp_path, "explain-latency")


def test_a_request_is_found_though_nodes_are_down_and_they_are_named(logs: Surroundings) -> None:
    written(logs, {"request_id": ID, "time": time.time() - 5}, {"request_id": "another-one", "time": time.time()})
    done = logs.run(ID)
    assert done.returncode == 0, done.stderr
    entries = [re.split("  +", row) for row in done.stdout.splitlines()[1:]]
    assert {row[2] for row in entries} == {"lb1"}
    assert entries[-1][3] == "answered"
    assert [name for name in ("lb2", "gpu1", "gpu2") if f"not everything of {name}" in done.stderr] == [
        "lb2",
        "gpu1",
        "gpu2",
    ]
    assert "Traceback" not in done.stderr


def test_json_has_entries_and_the_lines_themselves(logs: Surroundings) -> None:
    written(logs, {"request_id": ID, "time": time.time() - 5})
    seen = json.loads(logs.run(ID, "--json").stdout)
    assert set(seen) == {"request_id", "found", "missing", "entries", "requests"}
    assert set(seen["entries"][0]) == {"at", "node", "what", "detail"}
    assert seen["requests"][0]["request_id"] == ID
    documented = (REPOSITORY / "docs/operate.md").read_text()
    assert [key for key in (*seen, *seen["entries"][0]) if f"`{key}`" not in documented] == []


def test_nowhere_is_exit_1_and_with_a_node_down_it_cannot_tell(logs: Surroundings) -> None:
    written(logs)
    logs.ways(*EVERYBODY)
    assert (logs.run(ID).returncode, logs.run(ID, "--json").returncode) == (1, 1)
    logs.ways(*EVERYBODY[1:])
    done = logs.run(ID)
    assert done.returncode == 3
    assert "not everything of lb1 was read: 198.18.0.11: could not be reached" in done.stderr
    assert f"no line of {ID} within 1d" in done.stderr


@pytest.mark.parametrize("arguments", [["short"], ["abc;reboot;abc"], ["a" * 129], [ID, "--since", "yesterday"]])
def test_what_is_no_request_id_or_no_time_is_exit_2_and_nobody_is_asked(
    logs: Surroundings, arguments: list[str]
) -> None:
    logs.program("ssh", f"touch {logs.folder}/asked\nexit 255\n")
    done = logs.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "8 to 128 of" in done.stderr or "such as 15m or 2h" in done.stderr
    assert not (logs.folder / "asked").exists()


def test_where_time_went_without_prometheus_and_with_a_plot(explain: Surroundings) -> None:
    now = time.time()
    slow = {
        "time": now - 9,
        "origin": "client",
        "queue_ms": 900,
        "first_token_ms": 1000,
        "last_token_ms": 1900,
        "total_ms": 2000,
    }
    written(explain, *[slow] * 3, {"time": now - 8, "pool": "large"}, {"time": now - 7200})
    plot = explain.folder / "where.svg"
    done = explain.run("--pool", "small", "--since", "1h", "--plot", str(plot))
    assert done.returncode == 0, done.stderr
    assert "lane interactive: 3 answered" in done.stdout
    queue = next(row for row in done.stdout.splitlines() if row.startswith("queue"))
    assert queue.split()[1:9] == ["0.900", "s"] * 4
    assert "45.0 %" in queue
    assert "not everything of lb2" in done.stderr
    assert "not everything of the engines' own view: 198.18.0.12: could not be reached" in done.stderr
    assert plot.read_text().startswith("<svg ")


def test_explain_json_has_the_documented_keys(explain: Surroundings) -> None:
    written(explain, {"time": time.time() - 9, "origin": "client"})
    seen = json.loads(explain.run("--pool", "small", "--json").stdout)
    assert set(seen) == {"pool", "since_seconds", "lanes", "engines", "missing"}
    lane = seen["lanes"][0]
    documented = (REPOSITORY / "docs/operate.md").read_text()
    assert [key for key in (*seen, *lane, *lane["stages"][0]) if f"`{key}`" not in documented] == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--pool", "none"], 2, "there is no such pool; "),
        (["--pool", "small", "--since", "1w"], 2, "such as 15m or 2h"),
        (["--pool", "small", "--plot", "where.png"], 2, "ends with .svg"),
        (["--pool", "large"], 1, "no client asked the pool large anything within 1h"),
    ],
)
def test_what_cannot_be_explained_is_told(explain: Surroundings, arguments: list[str], code: int, said: str) -> None:
    written(explain, {"time": time.time() - 9, "origin": "client"})
    done = explain.run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_no_balancer_at_all_is_exit_3(explain: Surroundings) -> None:
    explain.ways()
    done = explain.run("--pool", "small")
    assert done.returncode == 3
    assert "no balancer could be asked" in done.stderr
