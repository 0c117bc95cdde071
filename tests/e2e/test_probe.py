"""The probe on the running lab with real vLLM: hung and killed engines leave the rotation in time and come back by themselves."""

import csv
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from conftest import REPOSITORY, Service, node
from rackserve.definition.load import load_inventory

T = TypeVar("T")
BALANCER, NODE, ENGINE, OTHER_NODE = "lb1", "gpu1", "small-gpu1", "gpu2"
UNIT, PROBE = f"vllm@{ENGINE}.service", "rackserve-engine-probe.service"
KILLED_SECONDS, HANG_SECONDS, BUSY_SECONDS = 2.0, 5.0, 1.5


def eventually(check: Callable[[], T], what: str, seconds: float) -> T:
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s; last seen: {found!r}"
        time.sleep(0.05)
    return found


def servers() -> dict[tuple[str, str], dict[str, str]]:
    port = load_inventory(REPOSITORY / "inventory" / "lab").hosts[BALANCER]["service_ports"]["stats"]
    text = node(BALANCER, "curl", "-sf", "-m", "5", f"http://127.0.0.1:{port}/stats;csv")
    return {(row["pxname"], row["svname"]): row for row in csv.DictReader(io.StringIO(text.removeprefix("# ")))}


def state() -> str:
    return servers()["engines", ENGINE]["status"]


def taken() -> int:
    """Requests that the balancer has ever given to the engine."""
    return int(servers()["pool-small-stable", ENGINE]["stot"])


def figure(name: str) -> float:
    page = node(NODE, "curl", "-sf", "-m", "5", "http://127.0.0.1:8408/metrics")
    labels = f'engine="{ENGINE}"'
    return next(
        float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name + "{") and labels in line
    )


def show(name: str, unit: str, what: str) -> str:
    return node(name, "systemctl", "show", "-P", what, unit).strip()


class Load:
    """Clients that ask one after the other; (when asked, whether it was answered) of each request."""

    def __init__(self, service: Service, clients: int = 2) -> None:
        self.asked: list[tuple[float, bool, str]] = []
        self._url, self._key = service.urls[BALANCER], service.key
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Lets what runs come to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _run(self) -> None:
        body: dict[str, Any] = {"model": "small", "max_tokens": 16}
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=45) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                # Each another one: a prompt on which engines die again and again is refused.
                body["messages"] = [{"role": "user", "content": uuid.uuid4().hex}]
                try:
                    answer = client.post("/v1/chat/completions", json=body)
                    self.asked.append((began, answer.status_code == 200, str(answer.status_code)))
                except httpx.HTTPError as error:
                    self.asked.append((began, False, repr(error)))

    def failed_since(self, moment: float) -> list[str]:
        return [why for began, answered, why in self.asked if began >= moment and not answered]

    def answered_since(self, moment: float) -> int:
        return sum(began >= moment and answered for began, answered, _ in self.asked)


@pytest.fixture(scope="module")
def stopped_probe() -> Iterator[str]:
    """The other GPU node's probe stands still from the beginning, so that nobody waits for systemd."""
    main = show(OTHER_NODE, PROBE, "MainPID")
    node(OTHER_NODE, "kill", "-STOP", main)
    yield main
    node(OTHER_NODE, "kill", "-CONT", main, check=False)


@pytest.fixture
def load(service: Service, stopped_probe: str) -> Iterator[Load]:
    eventually(lambda: state() == "UP", "the engine in service", 60)
    before = taken()
    with Load(service) as running:
        eventually(lambda: taken() > before + 3, "requests at the engine", 20)
        yield running


def core() -> str:
    return node(NODE, "pgrep", "-f", "^VLLM::EngineCor").split()[0]


def out_at(since: float) -> float | None:
    """When the balancer took the engine out after that moment, by its own log: looking takes long on a busy machine."""
    lines = node(
        BALANCER, "journalctl", "-u", "haproxy", "-o", "short-unix", "-q", f"--since=@{since:.0f}"
    ).splitlines()
    # By its checks or its agent, or by the breaker before them.
    words = tuple(f"Server pool-small-stable/{ENGINE} is {how}" for how in ("DOWN", "going DOWN"))
    found = [float(line.split()[0]) for line in lines if any(word in line for word in words)]
    return next((moment for moment in found if moment >= since), None)


def test_a_hung_engine_gets_no_new_request_in_time_and_is_back_by_itself(load: Load) -> None:
    bound = HANG_SECONDS + figure("rackserve_probe_longest_step_seconds")
    assert bound < 20, "a longest step that is no step"
    process = core()
    hung, began = float(node(NODE, "sh", "-c", f"date +%s.%N; kill -STOP {process}")), time.monotonic()
    try:
        assert node(NODE, "curl", "-sf", "-m", "2", "-w", "%{http_code}", "http://127.0.0.1:8001/health") == "200"
        out = eventually(lambda: out_at(hung), "the engine out", bound + 20)
        before, later = taken(), time.monotonic()
        eventually(lambda: load.answered_since(later) >= 8, "others answer", 60)
        assert taken() == before, "a request went to the hung engine"
    finally:
        node(NODE, "kill", "-CONT", process)
    # The load of this test takes both cores of a small machine, the probe's and the balancer's turn included.
    assert out - hung <= bound + BUSY_SECONDS, f"out after {out - hung:.1f} s of at most {bound:.1f} s"
    eventually(lambda: state() == "UP", "the engine back", 20)
    eventually(lambda: taken() > before, "requests at the engine", 30)
    assert not load.failed_since(began + bound)


def test_a_probe_that_is_killed_is_back_at_once_and_the_engine_stays(load: Load) -> None:
    main = show(NODE, PROBE, "MainPID")
    began = time.monotonic()
    node(NODE, "kill", "-KILL", main)
    eventually(lambda: show(NODE, PROBE, "MainPID") not in ("0", main), "another probe", 5)
    eventually(lambda: figure("rackserve_probe_up") == 1, "a word on the engine", 10)
    assert state() == "UP"
    assert not load.failed_since(began)


def test_a_restart_that_the_probe_asks_for_keeps_the_stacks_and_new_requests_go_elsewhere(load: Load) -> None:
    """The same as a crash: every process of the engine is killed while it has requests."""
    eventually(lambda: figure("rackserve_probe_up") == 1, "a word on the engine", 10)
    dumps = set(node(NODE, "ls", "/var/lib/rackserve/dumps").split())
    main, starts = show(NODE, UNIT, "MainPID"), show(NODE, UNIT, "ExecMainStartTimestampMonotonic")
    wish = "/run/rackserve-engine-probe/restart/" + ENGINE
    # While its stacks are read it stands still, so that it may be out before it is killed. The core has the port's socket too, and
    # takes a while to give its memory back.
    gone = f"! test -d /proc/{main} && ! test -d /proc/{core()}"
    waits = f"date +%s.%N; echo test > {wish}; until {gone}; do sleep 0.02; done; date +%s.%N"
    asked, killed = (float(one) for one in node(NODE, "sh", "-c", waits).split())
    began = time.monotonic()
    out = eventually(lambda: out_at(asked), "the engine out", 20)
    eventually(lambda: load.answered_since(began + KILLED_SECONDS) >= 40, "others answer", 60)
    # An engine that starts needs the processor that the load would take.
    load.end()
    assert not load.failed_since(began + KILLED_SECONDS)
    (made,) = set(node(NODE, "ls", "/var/lib/rackserve/dumps").split()) - dumps
    text = node(NODE, "cat", f"/var/lib/rackserve/dumps/{made}")
    assert "VLLM::EngineCore" in text
    assert "vllm/v1/engine/core.py" in text, text[:3000]
    assert node(NODE, "ls", "/run/rackserve-engine-probe/restart") == ""
    assert out - killed <= KILLED_SECONDS, f"out after {out - killed:.1f} s of at most {KILLED_SECONDS} s"
    eventually(lambda: state() == "UP", "the engine back", 300)
    assert show(NODE, UNIT, "ExecMainStartTimestampMonotonic") != starts


def test_a_probe_that_hangs_is_restarted_by_systemd(stopped_probe: str) -> None:
    eventually(lambda: show(OTHER_NODE, PROBE, "MainPID") not in ("0", stopped_probe), "another probe", 20)
    assert show(OTHER_NODE, PROBE, "ActiveState") == "active"
    page = node(OTHER_NODE, "curl", "-sf", "-m", "5", "http://127.0.0.1:8408/metrics")
    assert "rackserve_probe_info" in page
