"""The runtime client of scripts/ against the real HAProxy: what the unit tests' fake answers is what it answers."""

from pathlib import Path

import httpx
import pytest
import yaml
from rackserve.fleet.errors import RefusedError
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import host_of

from gateway.balancer import RUNTIME, Balancer
from gateway.plan import KEYS

MAP = "maps/keys.map"


@pytest.fixture(scope="module")
def runtime(running: Balancer) -> Runtime:
    inventory = yaml.safe_load((Path(__file__).parent / "inventory" / "hosts.yml").read_text())["all"]
    host = host_of("gw1", inventory["vars"] | inventory["hosts"]["gw1"])
    return Runtime(host, f"{RUNTIME}/admin.sock", deadline_seconds=60)


def status(balancer: Balancer, key: str) -> int:
    return httpx.get(f"{balancer.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


def test_entries_are_added_changed_and_removed(balancer: Balancer, runtime: Runtime) -> None:
    before = runtime.entries(MAP)
    assert "demo/demo-1" in before.values()
    key = "0" * 64
    runtime.put_entry(MAP, key, "demo/extra")
    assert runtime.entry(MAP, key) == "demo/extra"
    runtime.put_entry(MAP, key, "demo/changed")
    assert runtime.entries(MAP) == before | {key: "demo/changed"}
    runtime.drop_entry(MAP, key)
    runtime.drop_entry(MAP, key)
    assert runtime.entries(MAP) == before


def test_a_map_is_replaced_in_one_step_and_acts_at_once(balancer: Balancer, runtime: Runtime) -> None:
    before = runtime.entries(MAP)
    many = {f"{number:064x}": "demo/demo-1" for number in range(500)}
    runtime.replace_entries(MAP, many)
    assert status(balancer, KEYS["demo"]) == 401
    runtime.replace_entries(MAP, before)
    assert status(balancer, KEYS["demo"]) == 200
    assert runtime.entries(MAP) == before


def test_a_server_is_drained_and_comes_back(balancer: Balancer, runtime: Runtime) -> None:
    def state() -> str:
        return next(one.status for one in runtime.servers() if (one.backend, one.server) == ("engines", "duo-1"))

    runtime.set_server_state("engines", "duo-1", "drain")
    assert state() == "DRAIN"
    runtime.set_server_state("engines", "duo-1", "maint")
    assert state() == "MAINT"
    runtime.set_server_state("engines", "duo-1", "ready")
    assert state().startswith(("UP", "DOWN"))


@pytest.mark.usefixtures("balancer")
def test_refusals_are_typed(runtime: Runtime) -> None:
    with pytest.raises(RefusedError, match="Unknown map"):
        runtime.entries("maps/nothing.map")
    with pytest.raises(RefusedError, match="Unknown map"):
        runtime.replace_entries("maps/nothing.map", {})
    with pytest.raises(RefusedError, match="No such server"):
        runtime.set_server_state("engines", "nobody", "drain")


@pytest.mark.usefixtures("balancer")
def test_information_and_statistics_are_read(runtime: Runtime) -> None:
    assert runtime.information()["Name"] == "HAProxy"
    assert {"api", "engines"} <= {row["pxname"] for row in runtime.statistics()}
