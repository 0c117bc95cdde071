"""What stands on the screen, and the command itself, run as an operator runs it with an ssh that is played."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rackserve.fleet.errors import UnreachableError
from rackserve.fleet.status.observe import observe
from rackserve.fleet.status.show import duration, screen, seconds
from rackserve.fleet.status.snapshot import Alert, Balancer, Budget, Engine, Missing, Pool, Snapshot, Track, Users
from rich.console import Console
from unit.fleet.fake_haproxy import FakeHaproxy
from unit.status.playing import INFORMATION, WATCHDOG, PlayedHost, alert, balancer, fleet, monitor, statistics
from unit.status.surroundings import Surroundings

REPOSITORY = Path(__file__).resolve().parents[3]


def text(snapshot: Snapshot, width: int = 130) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(screen(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_pages_stand_above_all_figures_with_their_runbook() -> None:
    alerts = [WATCHDOG, alert("ticket", "Disk", node="gpu1"), alert("page", "SloBurn", slo="tight", pool="small")]
    shown = text(observe(fleet([balancer("lb1", held=["192.0.2.10"]), balancer("lb2")], [monitor("m1", alerts)])))
    places = [shown.index(word) for word in ("SloBurn says so", "docs/runbooks/Disk.md", "POOL", "BALANCER")]
    assert places == sorted(places)
    assert "tight small" in shown
    for figure in ("0.250 s", "4.5 s", "25.0 %", "5.0 %", "2 h", "not burning", "42.0 %", "holds it", "8 s old"):
        assert figure in shown, shown


def test_without_prometheus_the_reason_stands_at_the_top_and_haproxys_own_means_in_place_of_percentiles() -> None:
    gone = PlayedHost("m1", {"prometheus": UnreachableError("192.0.2.3", "prometheus", "no route to host")})
    shown = text(observe(fleet([balancer("lb1"), balancer("lb2")], [gone])), width=200)
    head, missing = shown.splitlines()[:2]
    assert "no figures from Prometheus" in head
    assert missing.startswith("MISSING Prometheus: figures of users, budgets, alerts: 192.0.2.3: could not be reached")
    assert "mean answer" in shown
    assert "2 s" in shown
    assert "USERS" not in shown


def test_a_balancer_that_does_not_answer_is_named_in_its_row() -> None:
    down = PlayedHost("lb2", {"admin_socket": UnreachableError("192.0.2.2", "admin_socket", "no route to host")})
    shown = text(observe(fleet([balancer("lb1", held=["192.0.2.10"]), down], [monitor("m1")])))
    row = next(line for line in shown.splitlines() if line.startswith("lb2"))
    assert "does not answer" in row
    assert "MISSING balancer lb2: 192.0.2.2: could not be reached" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (1_047_600, "12 d 3 h"), (None, "?")],
)
def test_durations_in_their_two_largest_units(value: float | None, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.042, "0.042 s"), (1.25, "1.25 s"), (31.24, "31.2 s"), (None, "?")])
def test_seconds_to_three_digits(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    with FakeHaproxy(tmp_path / "admin.sock") as fake:
        fake.said = {"show info": INFORMATION, "show stat": statistics()}
        fake.maps["maps/configuration.map"] = {"digest": "abc"}
        yield Surroundings(tmp_path, "status")


def test_json_is_the_same_data_with_the_documented_keys(surroundings: Surroundings) -> None:
    done = surroundings.run("--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    documented = (REPOSITORY / "docs/operate.md").read_text()
    assert set(seen) == set(Snapshot.__dataclass_fields__) | {"complete"}
    kinds = (Snapshot, Missing, Alert, Pool, Track, Users, Budget, Engine, Balancer)
    keys = {"complete"} | {field for kind in kinds for field in kind.__dataclass_fields__}
    assert {key for key in keys if f"`{key}`" not in documented} == set(), "docs/operate.md names every key"
    assert seen["complete"] is False
    assert seen["missing"][0]["what"] == "balancer lb2"
    assert [(one["name"], one["answers"]) for one in seen["balancers"]] == [("lb1", True), ("lb2", False)]
    assert seen["balancers"][0]["configuration"] == "differs"


def test_nobody_to_ask_is_exit_3_with_the_reasons(surroundings: Surroundings) -> None:
    surroundings.ways()
    done = surroundings.run()
    assert done.returncode == 3
    assert done.stdout.count("no route to host") == 3
    assert "Traceback" not in done.stderr


def test_an_inventory_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    command = [str(REPOSITORY / "scripts/status"), "-i", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no such inventory" in done.stderr


def test_watch_draws_again_and_ends_with_ctrl_c(surroundings: Surroundings) -> None:
    screen_side, own_side = pty.openpty()
    command = surroundings.command("--watch")
    with subprocess.Popen(command, env=surroundings.environment, stdout=own_side, stderr=own_side) as process:
        os.close(own_side)
        shown = read_until(screen_side, b"balancers asked now", times=2)
        process.send_signal(signal.SIGINT)
        shown += read_until(screen_side, b"", times=1)
        assert process.wait(timeout=15) == 0, shown.decode()
    os.close(screen_side)
    assert b"Traceback" not in shown


def read_until(terminal: int, text: bytes, times: int) -> bytes:
    """Until the text came so often; with an empty one, until the other side has gone."""
    shown, ends = b"", time.monotonic() + 30
    while not text or shown.count(text) < times:
        assert select.select([terminal], [], [], max(ends - time.monotonic(), 0))[0], shown.decode()
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # what Linux says when nobody has the other side open any more
            return shown
        shown += piece
    return shown
