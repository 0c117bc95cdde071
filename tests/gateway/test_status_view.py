"""scripts/status' reading of a balancer against the real HAProxy: what it counts is what runs and waits."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import CommandHost, host_of
from rackserve.fleet.status.observe import Fleet, observe
from rackserve.fleet.status.snapshot import Engine, Pool, Snapshot

from gateway.asking import chat
from gateway.balancer import RUNTIME, Balancer, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, NODE, default_lanes, default_pools, plan
from gateway.stub import Stub

SOCKET = f"{RUNTIME}/admin.sock"


@pytest.fixture(scope="module")
def host(running: Balancer) -> CommandHost:
    inventory = yaml.safe_load((Path(__file__).parent / "inventory" / "hosts.yml").read_text())["all"]
    return host_of(NODE, inventory["vars"] | inventory["hosts"][NODE])


def seen(host: CommandHost, service: dict[str, Any], digest: str) -> Snapshot:
    whole = {**service, "monitors": [], "ports": {**service["ports"], "prometheus": 9090}}
    engines = [{**engine, "release": "stub-1"} for engine in service["engines"]]
    fleet = Fleet({**whole, "engines": engines}, [host], [], {NODE: SOCKET}, {NODE: digest})
    return observe(fleet, deadline_seconds=30)


def pool_of(snapshot: Snapshot, name: str) -> Pool:
    return next(pool for pool in snapshot.pools if pool.name == name)


def engine_of(snapshot: Snapshot, name: str) -> Engine:
    return next(engine for engine in snapshot.engines if engine.name == name)


def test_running_queueing_and_waiting_in_the_room_are_told_apart(
    restored: Balancer, balancer: Balancer, stub: Stub, stub_address: str, crowd: Crowd, host: CommandHost
) -> None:
    """Two slots, of which the lane batch may have one."""
    lanes, pools = default_lanes(), default_pools()
    lanes["batch"] |= {"slots_percent": 50}
    pools["narrow"]["slots_per_balancer"] = 2
    pools["narrow"]["queue"] |= {"max_requests": 8, "timeout_seconds": 10}
    service = plan(stub_address, FIRST_PORT, pools, lanes)
    made = candidate(service)
    balancer.reload(made)
    eventually(balancer.all_up, "every engine in service")
    running = [crowd.ask(chat("narrow", ttft=4), tenant=tenant) for tenant in ("batch", "demo")]
    eventually(lambda: len(stub.seen("narrow-1")) == 2, "both slots taken")
    waiting = [crowd.ask(chat("narrow"), tenant=tenant) for tenant in ("batch", "batch", "demo")]

    def counted() -> tuple[int | None, ...] | None:
        pool = pool_of(seen(host, service, made.digest), "narrow")
        found = (pool.in_flight, pool.slots, pool.queued, pool.waiting_room)
        return found if found == (2, 2, 1, 2) else None

    eventually(counted, "two run, one queues, two wait in front", seconds=3.5)
    assert [answer.result().status_code for answer in (*running, *waiting)] == [200] * 5
    after = seen(host, service, made.digest)
    pool = pool_of(after, "narrow")
    assert (pool.in_flight, pool.queued, pool.waiting_room) == (0, 0, 0)
    assert pool.mean_answer_seconds is not None
    assert pool.mean_answer_seconds > 0.5
    assert after.balancers[0].configuration == "as the inventory"
    assert (after.balancers[0].version or "").startswith("3.")


def test_states_of_engines_are_haproxys_own(balancer: Balancer, stub_address: str, host: CommandHost) -> None:
    service, runtime = plan(stub_address, FIRST_PORT), Runtime(host, SOCKET, deadline_seconds=60)

    def state(engine: str) -> str:
        return engine_of(seen(host, service, "other"), engine).state

    assert (state("duo-1"), engine_of(seen(host, service, "other"), "duo-1").track) == ("up", "stable")
    assert seen(host, service, "other").balancers[0].configuration == "differs"
    try:
        runtime.set_server_state("engines", "duo-1", "drain")
        assert state("duo-1") == "drained"
        runtime.set_server_state("engines", "duo-1", "maint")
        assert state("duo-1") == "maintenance"
        assert pool_of(seen(host, service, "other"), "duo").tracks[0].engines_up == 1
        runtime.set_server_state("engines", "duo-1", "ready")
        runtime.set_server_state("breakers", "duo-2", "maint")
        assert state("duo-2") == "breaker open"
        runtime.set_server_state("breakers", "duo-2", "ready")
        runtime.set_server_state("pool-duo-canary", "duo-2", "ready")
        runtime.set_server_state("pool-duo-stable", "duo-2", "maint")
        moved = engine_of(seen(host, service, "other"), "duo-2")
        assert (moved.track, moved.state) == ("canary", "up")
    finally:
        for backend, engine, wanted in (
            ("engines", "duo-1", "ready"),
            ("breakers", "duo-2", "ready"),
            ("pool-duo-stable", "duo-2", "ready"),
            ("pool-duo-canary", "duo-2", "maint"),
        ):
            runtime.set_server_state(backend, engine, wanted)
    eventually(balancer.all_up, "every engine in service")
