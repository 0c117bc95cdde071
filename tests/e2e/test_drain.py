"""Drain, undrain and maintenance on the running lab: under streams of real vLLM nothing fails and nothing is cut."""

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import REPOSITORY, node, playbook
from rackserve.definition.load import Inventory, load_inventory

CHAT = "/v1/chat/completions"
# Another rack than the lab's, for trying things out beside it.
WHERE = Path(os.environ.get("RACKSERVE_E2E_INVENTORY", REPOSITORY / "inventory/lab"))


class Rack:
    """The lab as this test sees it: a pool with two engines on two nodes, and one whose only engine is on the second."""

    def __init__(self, inventory: Inventory) -> None:
        self.plan = inventory.plan
        self.balancers: list[str] = self.plan["balancers"]
        self.monitor: str = self.plan["monitors"][0]
        self.nodes: list[str] = self.plan["gpu_nodes"]
        host = inventory.hosts[self.balancers[0]]
        self.key, self.probe_key = host["vault_demo_key"], host["service_probe_key"]
        port = self.plan["ports"]["api"]
        self.urls = [f"http://{self.plan['nodes'][name]['address']}:{port}" for name in self.balancers]
        self.engine = next(one for one in self.plan["engines"] if one["node"] == self.nodes[0])
        self.lone = next(one for one in self.plan["engines"] if len(self.plan["pools"][one["pool"]]["engines"]) == 1)

    def script(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / "scripts" / name), *words, "-i", str(WHERE), "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def status(self) -> dict[str, Any]:
        done = self.script("status")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self) -> str:
        return next(str(one["state"]) for one in self.status()["engines"] if one["name"] == self.engine["name"])

    def tokens(self) -> float:
        """Made by the engine of the first node, by its own count."""
        url = f"http://{self.engine['address']}:{self.engine['port']}/metrics"
        page = node(self.balancers[0], "curl", "-sf", url)
        return sum(
            float(line.split()[-1]) for line in page.splitlines() if line.startswith("vllm:generation_tokens_total")
        )

    def ask(self, pool: str, key: str | None = None) -> httpx.Response:
        body = {
            "model": self.plan["pools"][pool]["names"][0],
            "max_tokens": 2,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.post(f"{self.urls[0]}{CHAT}", json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def rack() -> Rack:
    return Rack(load_inventory(WHERE))


class Load:
    """Clients that stream one answer after the other, through every balancer in turn, and count how each ended."""

    def __init__(self, rack: Rack, clients: int, tokens: int) -> None:
        self.ended: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._rack, self._tokens, self._over = rack, tokens, threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _go_on(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self._rack.key}"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while not self._over.is_set():
                number += 1
                how, why = self._one(client, self._rack.urls[number % len(self._rack.urls)])
                # The commands need a processor too.
                self._over.wait(0.3)
                self.ended[how] += 1
                if why:
                    self.wrong.append(f"{how}: {why}")

    def _one(self, client: httpx.Client, url: str) -> tuple[str, str]:
        messages = [{"role": "user", "content": "Tell me"}]
        body = {"model": self._rack.plan["pools"][self._rack.engine["pool"]]["names"][0], "messages": messages}
        body |= {"stream": True, "max_tokens": self._tokens, "ignore_eos": True}
        how, why = self._stream(client, url, body)
        # On a connection that a reload had just closed: clients try once more on a new one, as OpenAI's library does.
        return self._stream(client, url, body) if "without sending a response" in why else (how, why)

    def _stream(self, client: httpx.Client, url: str, body: dict[str, Any]) -> tuple[str, str]:
        text = ""
        try:
            with client.stream("POST", f"{url}{CHAT}", json=body) as answer:
                text = answer.read().decode()
                if answer.status_code != 200:
                    return "failed", f"{answer.status_code} {text[:200]}"
        except httpx.HTTPError as error:
            return ("cut" if text else "failed"), repr(error)
        return ("ok", "") if text.rstrip().endswith("data: [DONE]") else ("cut", text[-200:])


@pytest.fixture
def in_service(rack: Rack) -> Iterator[None]:
    yield
    done = rack.script("undrain", rack.nodes[0], "--force")
    assert done.returncode == 0, done.stderr
    rack.script("maintenance", "off", rack.lone["pool"])


@pytest.fixture
def unprobed(rack: Rack) -> Iterator[None]:
    """An idle engine is asked for a token now and then, which would be in its own count."""
    node(rack.nodes[0], "systemctl", "stop", "rackserve-engine-probe")
    yield
    node(rack.nodes[0], "systemctl", "start", "rackserve-engine-probe")


def until(check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    ends = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < ends, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return found


def test_drain_and_undrain_under_streams_fail_and_cut_nothing(rack: Rack, in_service: None, unprobed: None) -> None:
    with Load(rack, clients=2, tokens=40) as load:
        until(lambda: load.ended["ok"] >= 6, "streams come through")
        # Whatever else this rack was asked today: the peak has a test of its own.
        done = rack.script("drain", rack.nodes[0], "--force", "--reason", "test")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["streams"] == 0
        before = rack.tokens()
        # Nothing undoes it: no reload, and no run of the role.
        node(rack.balancers[0], "systemctl", "reload", "haproxy")
        run = playbook("--tags", "haproxy,verify", inventory=WHERE)
        assert run.status == 0, run.output[-3000:]
        assert run.changed() == []
        assert f"{rack.engine['name']}: drained by" in run.output
        assert rack.tokens() == before, "not one token while it is out"
        seen = until(lambda: rack.status()["drains"], "it shows")
        assert [(one["engine"], one["step"], one["reason"]) for one in seen] == [
            (rack.engine["name"], "drained", "test")
        ]
        assert rack.state() == "drained"
        done = rack.script("undrain", rack.nodes[0])
        assert done.returncode == 0, done.stderr
        warm = rack.tokens()
        until(lambda: rack.tokens() > warm, "it gets requests again")
    assert (load.ended["failed"], load.ended["cut"]) == (0, 0), load.wrong[:5]
    assert rack.status()["drains"] == []
    assert rack.state() == "up"


def test_a_drain_that_is_killed_shows_and_is_finished_by_the_next(rack: Rack, in_service: None) -> None:
    with Load(rack, clients=2, tokens=1000) as load:
        command = [str(REPOSITORY / "scripts/drain"), rack.nodes[0], "--force", "-i", str(WHERE)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
            assert killed.stderr is not None
            said = []
            while not (said and said[-1].startswith(("wait:", "set:"))):
                said.append(killed.stderr.readline())
                assert said[-1], said
            # It stands still in the middle, and is the one at work all the same.
            killed.send_signal(signal.SIGSTOP)
            second = rack.script("drain", rack.nodes[0], "--force")
            killed.send_signal(signal.SIGKILL)
        assert (second.returncode, "is at work on it" in second.stderr) == (4, True), second.stderr
        seen = until(lambda: rack.status()["drains"], "it shows")
        assert [one["step"] for one in seen] == ["draining"]
        done = rack.script("drain", rack.nodes[0], "--force")
        assert done.returncode == 0, done.stderr
    assert (load.ended["failed"], load.ended["cut"]) == (0, 0), load.wrong[:5]


def test_what_cannot_be_is_refused_with_a_clear_sentence(rack: Rack) -> None:
    unknown = rack.script("drain", "nobody")
    assert unknown.returncode == 2
    assert f"Nodes: {', '.join(rack.nodes)}" in unknown.stderr
    last = rack.script("drain", rack.lone["name"])
    assert last.returncode == 4, last.stderr
    assert f"the last in service of the pool {rack.lone['pool']}" in last.stderr
    assert f"scripts/maintenance on {rack.lone['pool']}" in last.stderr
    plan = rack.script("drain", rack.nodes[0], "--dry-run")
    assert plan.returncode in (0, 4), plan.stderr
    assert "requests at a time" in plan.stderr, "a day's peak is known"
    node(rack.monitor, "systemctl", "stop", "prometheus.service")
    try:
        blind = rack.script("drain", rack.nodes[0])
    finally:
        node(rack.monitor, "systemctl", "start", "prometheus.service")
    assert blind.returncode == 3, blind.stderr
    assert "Prometheus could not be asked" in blind.stderr
    assert "Nothing was changed" in blind.stderr
    assert rack.state() == "up"


def active_silences(rack: Rack) -> list[str]:
    url = f"http://127.0.0.1:{rack.plan['ports']['alertmanager']}/api/v2/silences"
    found = json.loads(node(rack.monitor, "curl", "-sf", url))
    return [one["comment"] for one in found if one["status"]["state"] == "active"]


def test_maintenance_is_clear_to_clients_silent_to_the_night_and_kept(rack: Rack, in_service: None) -> None:
    pool = rack.lone["pool"]
    done = rack.script("maintenance", "on", pool, "--for", "10m", "--reason", "new driver")
    assert done.returncode == 0, done.stderr
    answer = rack.ask(pool)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "maintenance")
    assert 590 <= int(answer.headers["retry-after"]) <= 600
    assert rack.ask(pool, rack.probe_key).status_code == 200, "our own questions pass"
    assert rack.ask(rack.engine["pool"]).status_code == 200, "the other pool is served"
    assert f"rackserve maintenance {pool}: new driver" in active_silences(rack)
    assert [(one["key"], one["balancers"]) for one in rack.status()["maintenance"]] == [(pool, rack.balancers)]
    drained = rack.script("drain", rack.lone["name"], "--dry-run")
    assert drained.returncode == 0, drained.stderr
    run = playbook("--tags", "haproxy", inventory=WHERE)
    assert (run.status, run.changed()) == (0, []), run.output[-3000:]
    for name in rack.balancers:
        node(name, "systemctl", "reload", "haproxy")
    until(lambda: rack.status()["maintenance"], "the new processes know it")
    assert rack.ask(pool).status_code == 503
    done = rack.script("maintenance", "off", pool)
    assert done.returncode == 0, done.stderr
    assert rack.ask(pool).status_code == 200
    assert not [one for one in active_silences(rack) if one.startswith(f"rackserve maintenance {pool}")]


def test_the_playbooks_do_the_same_and_check_mode_only_shows_the_plan(rack: Rack, in_service: None) -> None:
    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), f"playbooks/{name}.yml", "-i", str(WHERE)]
        command += ["-e", f"node={rack.engine['name']}", *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)

    looked = run("drain", "-e", "drain_force=true", "--check")
    assert looked.returncode == 0, looked.stdout
    assert "would be drained" in looked.stdout
    assert rack.state() == "up"
    assert run("drain", "-e", "drain_force=true").returncode == 0
    assert rack.state() == "drained"
    assert run("undrain").returncode == 0
    assert rack.state() == "up"
