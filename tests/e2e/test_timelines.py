"""One timeline when something was broken: an engine that refuses, nodes that are off."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import REPOSITORY, Service, node
from operating import client, script, story, stream, words
from rackserve.lab import network, nodes
from rackserve.lab.settings import settings_from

ENGINE, ENGINES_NODE, PORT = "small-gpu1", "gpu1", 8001
# As a port on which nobody listens, without stopping the engine, which takes most of a minute to start.
REFUSING = (
    f"table inet e2e {{ chain in {{ type filter hook input priority -10; tcp dport {PORT} reject with tcp reset; }}; }}"
)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """The balancers do not find out by their checks, so that requests do."""
    for balancer in ("lb1", "lb2"):
        runtime(balancer, f"disable health engines/{ENGINE}")
    node(ENGINES_NODE, "nft", REFUSING)
    try:
        yield
    finally:
        node(ENGINES_NODE, "nft", "delete table inet e2e")
        for balancer in ("lb1", "lb2"):
            runtime(balancer, f"enable health engines/{ENGINE}")


def runtime(balancer: str, command: str) -> str:
    program = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        f"s.sendall(b'{command}\\n'); print(s.makefile().read())"
    )
    return node(balancer, "python3", "-c", program)


def connect_entry(found: dict[str, Any]) -> str:
    return next((entry["detail"] for entry in found["entries"] if entry["what"] == "engine has it"), "")


def test_a_request_that_an_engine_refused_tells_of_its_second_try(service: Service) -> None:
    with refusing():
        asked = [stream(service, tokens=8) for _ in range(4)]
        for one in asked:
            assert list(one.parse()), "the client notices nothing"
    stories = [story(one.headers["x-request-id"]) for one in asked]
    retried = [one for one in stories if "failed connects" in connect_entry(one)]
    assert retried, [connect_entry(one) for one in stories]
    for one in retried:
        assert "on another engine at last" in connect_entry(one)
        assert connect_entry(one).count(ENGINE) == 0, "it names the engine that took it"
        stages = ["request comes in", "engine has it", "first token", "last token", "answered"]
        assert [word for word in words(one) if word in stages] == stages


def off(name: str) -> None:
    """A power cut."""
    os.kill(nodes.leader_of(settings_from(), name), signal.SIGKILL)


@contextlib.contextmanager
def unplugged(name: str) -> Iterator[None]:
    """Nothing reaches it, and nobody tells so: what a host that is off looks like from outside. It goes on at once."""
    cable = network.host_interface(nodes.leader_of(settings_from(), name))
    subprocess.run(["ip", "link", "set", cable, "down"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "set", cable, "up"], check=True)


@pytest.fixture
def everything_back(service: Service) -> Iterator[None]:
    yield
    subprocess.run([str(REPOSITORY / "scripts/lab"), "up"], check=True, capture_output=True, timeout=300)
    ends = time.monotonic() + 90
    while (states := engine_states()) != {"up"}:
        assert time.monotonic() < ends, states
        time.sleep(1)


def engine_states() -> set[str]:
    done = script("status", "--json")
    seen = json.loads(done.stdout) if done.returncode == 0 else {"engines": [], "balancers": []}
    silent = {"silent" for one in seen["balancers"] if not one["answers"]}
    return {one["state"] for one in seen["engines"]} | silent


def timed_story(request_id: str) -> tuple[int, dict[str, Any], float]:
    began = time.monotonic()
    done = script("logs", request_id, "--since", "1h", "--json")
    return done.returncode, json.loads(done.stdout), time.monotonic() - began


@pytest.mark.usefixtures("everything_back")
def test_with_a_balancer_and_an_engines_node_off_the_rest_is_told_and_they_are_named(service: Service) -> None:
    ids = {}
    for balancer in ("lb1", "lb2"):
        raw = client(service, balancer).chat.completions.with_raw_response.create(
            model="small", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
        ids[balancer] = raw.headers["x-request-id"]
        # Written down, and connections to all nodes are open and shared: they must not hold anybody up.
        assert story(ids[balancer])["found"]
    off("lb2")
    with unplugged(ENGINES_NODE):
        code, found, took = timed_story(ids["lb1"])
        assert (code, set(found["missing"])) == (0, {"gpu1", "lb2"}), found["missing"]
        # HAProxy's word on the engine that is gone may come after it.
        assert "answered" in words(found)
        assert took < 30, f"{took:.0f} s"
        code, found, took = timed_story(ids["lb2"])
        assert (code, found["found"]) == (3, False), "nobody may say that there was no such request"
        assert took < 30, f"{took:.0f} s"
