"""Announced maintenance: a clear refusal for the pool or for all, at once, and over by the clock."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from rackserve.fleet import maintenance
from rackserve.fleet.haproxy_files import MAINTENANCE_MAP
from rackserve.fleet.maintenance import Window
from rackserve.fleet.runtime import Runtime

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import CONFIGURATION, RUNTIME, Balancer, eventually
from gateway.crowd import Crowd
from gateway.plan import KEYS
from gateway.stub import Stub
from gateway.test_runtime_client import runtime as runtime

SOCKET = f"{RUNTIME}/admin.sock"
ROOT = f"{CONFIGURATION}-maintenance"


@pytest.fixture
def root(balancer: Balancer, runtime: Runtime) -> Iterator[str]:
    """The files lie as the role leaves them: `current` leads to what the process has read."""
    balancer.node.run(f"rm -rf {ROOT}; mkdir -p {ROOT} && ln -s {CONFIGURATION} {ROOT}/current")
    yield ROOT
    for key in runtime.entries(MAINTENANCE_MAP):
        maintenance.lift(runtime.host, ROOT, SOCKET, key, 0)
    balancer.node.run(f"rm -rf {ROOT}")


def begin(runtime: Runtime, root: str, key: str, seconds: float) -> int:
    now = time.time()
    window = Window(key, int(now), int(now + seconds), "ann@desk")
    maintenance.announce(runtime.host, root, SOCKET, window)
    return window.ends


def ask(client: httpx.Client, model: str = "duo", **more: Any) -> httpx.Response:
    return client.post(CHAT, json=chat(model), **more)


def test_a_pool_in_maintenance_answers_with_the_planned_end(
    client: httpx.Client, balancer: Balancer, stub: Stub, runtime: Runtime, root: str
) -> None:
    ends = begin(runtime, root, "duo", 1800)
    answer = ask(client)
    assert answer.status_code == 503
    error = error_of(answer)
    assert (error["code"], error["type"]) == ("maintenance", "server_error")
    assert time.strftime("until %Y-%m-%d %H:%M:%S UTC", time.gmtime(ends)) in error["message"]
    # In whole seconds, by the balancer's clock, which is this one.
    assert abs(int(answer.headers["retry-after"]) - (ends - time.time())) <= 2
    assert answer.headers["x-should-retry"] == "false", "the official client would try again at once"
    assert not stub.seen("duo-1", "duo-2")
    assert balancer.log_entry(answer.headers["x-request-id"])["refused"] == "maintenance"
    assert ask(client, "narrow").status_code == 200, "other pools are served"
    assert client.get("/v1/models").status_code == 200


def test_all_pools_and_the_later_end_of_the_two(client: httpx.Client, runtime: Runtime, root: str) -> None:
    begin(runtime, root, "duo", 10)
    ends = begin(runtime, root, "all", 30)
    for model in ("duo", "narrow"):
        answer = ask(client, model)
        assert answer.status_code == 503
        assert abs(int(answer.headers["retry-after"]) - (ends - time.time())) <= 2
        assert "x-should-retry" not in answer.headers, "a short wait is trusted to the client"
    maintenance.lift(runtime.host, root, SOCKET, "all", time.time())
    assert (ask(client, "duo").status_code, ask(client, "narrow").status_code) == (503, 200)


def test_it_ends_by_the_clock(client: httpx.Client, runtime: Runtime, root: str) -> None:
    ends = begin(runtime, root, "duo", 2)
    assert ask(client).status_code == 503
    eventually(lambda: ask(client).status_code == 200, "served again", seconds=4)
    assert time.time() >= ends


def test_what_runs_is_let_end_and_our_own_questions_pass(
    client: httpx.Client, stub: Stub, runtime: Runtime, root: str, crowd: Crowd
) -> None:
    running = crowd.ask(chat(ttft=1))
    eventually(lambda: stub.seen("duo-1", "duo-2"), "it runs")
    begin(runtime, root, "duo", 60)
    assert ask(client).status_code == 503
    assert running.result().status_code == 200
    assert ask(client, headers={"authorization": f"Bearer {KEYS['probe']}"}).status_code == 200


def test_it_survives_a_reload_and_off_ends_it_at_once(
    client: httpx.Client, balancer: Balancer, runtime: Runtime, root: str
) -> None:
    begin(runtime, root, "duo", 60)
    process = runtime.information()["Pid"]
    balancer.signal_reload()
    eventually(lambda: runtime.information()["Pid"] != process, "another process")
    eventually(balancer.all_up, "every engine in service")
    assert ask(client).status_code == 503
    assert maintenance.lift(runtime.host, root, SOCKET, "duo", time.time())
    assert ask(client).status_code == 200
    assert balancer.node.run(f"cat {CONFIGURATION}/{MAINTENANCE_MAP}") == ""
    assert not maintenance.lift(runtime.host, root, SOCKET, "duo", time.time()), "there is nothing to lift"
