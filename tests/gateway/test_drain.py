"""scripts/drain's moves on the real HAProxy: running streams end, new ones go elsewhere, reloads and old processes included."""

import copy
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from rackserve.fleet.drain import back, out
from rackserve.fleet.drain.decide import Step
from rackserve.fleet.drain.fleet import Fleet, Paths, engines_of
from rackserve.fleet.drain.observe import observe
from rackserve.fleet.drain.out import Exit, Result
from rackserve.fleet.haproxy_files import SHARES_MAP
from rackserve.fleet.runtime import Runtime

from gateway.asking import CHAT, Stream, chat, stream
from gateway.balancer import CONFIGURATION, RUNTIME, STATE, Balancer, candidate, eventually
from gateway.plan import ENGINE_KEY, FIRST_PORT, NODE, default_lanes, default_pools, plan
from gateway.stub import Stub
from gateway.test_runtime_client import runtime as runtime


@pytest.fixture(scope="module")
def patient(restored: Balancer, stub_address: str) -> dict[str, Any]:
    """A service in which a stream may last as long as a test on a busy machine."""
    lanes, pools = default_lanes(), default_pools()
    lanes["interactive"]["generation_timeout_seconds"] = 300
    for one in pools.values():
        one["timeouts"]["generation_seconds"] = 300
    service = plan(stub_address, FIRST_PORT, pools, lanes)
    restored.reload(candidate(service))
    return service


@pytest.fixture
def fleet(patient: dict[str, Any], balancer: Balancer, runtime: Runtime) -> Iterator[Fleet]:
    service = copy.deepcopy(patient)
    releases = {"stub-1": {"model": "stub"}}
    service |= {"releases": releases, "models": {"stub": {"context_tokens": 2048}}, "balancers": [NODE], "monitors": []}
    service["ports"] = {**service["ports"], "prometheus": 9090}
    for one in service["pools"].values():
        one["health"]["token_deadline_seconds"] = 10
    service["engines"] = [
        {**one, "node": "gpu1", "release": "stub-1", "served_names": ["duo"]} for one in service["engines"]
    ]
    records = f"{STATE}/drains"
    paths = {NODE: Paths(f"{RUNTIME}/admin.sock", f"{RUNTIME}/master.sock", CONFIGURATION, (), records)}
    yield Fleet(service, engines_of(service), [runtime.host], [], paths, ENGINE_KEY)
    for engine in ("duo-1", "duo-2"):
        runtime.set_server_state("engines", engine, "ready")
    balancer.node.run(f"rm -rf {records} {STATE}/server-state")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool


def drain(fleet: Fleet, steps: list[Step] | None = None, **more: Any) -> Result:
    wish = out.Wish(("duo-1",), more.pop("deadline", 20.0), force=True, **more)
    seen, _ = out.plan(fleet, wish)
    return out.drain(fleet, wish, seen, (steps if steps is not None else []).append)


@pytest.fixture
def gate(stub: Stub) -> Iterator[str]:
    """Streams of this gate run until its name is in `stub.gates`."""
    name = secrets.token_hex(4)
    yield name
    stub.gates.add(name)


def streams(client: httpx.Client, threads: ThreadPoolExecutor, gate: str, count: int) -> list[Future[Stream]]:
    body = chat(stream=True, gap=0.1, gate=gate)
    return [threads.submit(stream, client, body) for _ in range(count)]


def until(check: Callable[[], Any], what: str) -> None:
    """Every look at the node is a few programs started there, which takes its time on a busy machine."""
    eventually(check, what, seconds=60)


def until_it_waits(told: list[Step], ended: Future[Result]) -> None:
    until(lambda: ended.done() or any(step.kind == "wait" for step in told), "it waits")
    assert not ended.done(), ended.result()


def test_running_streams_end_and_new_ones_go_elsewhere(
    client: httpx.Client, stub: Stub, fleet: Fleet, threads: ThreadPoolExecutor, gate: str
) -> None:
    running = streams(client, threads, gate, 4)
    until(lambda: len(stub.seen("duo-1")) == 2, "two of them at duo-1")
    told: list[Step] = []
    ended = threads.submit(drain, fleet, told)
    until_it_waits(told, ended)
    later = [stream(client, chat(stream=True)) for _ in range(4)]
    stub.gates.add(gate)
    result = ended.result()
    assert result.code is Exit.DONE, result
    assert all(one.result().complete for one in running), "none was cut"
    assert all(one.complete for one in later)
    assert len(stub.seen("duo-1")) == 2, "nothing new"
    assert max(step.streams or 0 for step in told) == 2


def test_a_pool_in_which_a_release_is_tried_keeps_its_engines(fleet: Fleet, runtime: Runtime) -> None:
    wish = out.Wish(("duo-1",), 20.0)
    runtime.put_entry(SHARES_MAP, "duo", "50/50")
    try:
        permission = out.plan(fleet, wish)[1]
    finally:
        runtime.drop_entry(SHARES_MAP, "duo")
    held = out.refused(permission)
    assert held is not None
    assert (held.code, "a release is being tried in the pool duo" in held.said) == (Exit.HELD, True)
    assert not any("being tried" in reason for reason in out.plan(fleet, wish)[1].reasons)


def test_when_the_time_is_up_they_run_on_and_are_cut_only_when_asked(
    client: httpx.Client, stub: Stub, fleet: Fleet, threads: ThreadPoolExecutor, gate: str
) -> None:
    running = streams(client, threads, gate, 2)
    until(lambda: len(stub.seen("duo-1")) == 1, "one of them at duo-1")
    held = drain(fleet, deadline=0.5)
    assert (held.code, held.streams) == (Exit.HELD, 1)
    assert not any(one.done() for one in running)
    cut = drain(fleet, deadline=0.5, cut=True)
    assert cut.code is Exit.DONE, cut
    until(lambda: sorted(one.done() for one in running) == [False, True], "only the one at duo-1")
    stub.gates.add(gate)
    assert sorted(one.result().complete for one in running) == [False, True]
    assert [one.abandoned for one in stub.seen("duo-2")] == [False]


def test_a_drain_outlives_a_reload_and_streams_of_the_old_process_are_waited_for(
    client: httpx.Client,
    balancer: Balancer,
    stub: Stub,
    fleet: Fleet,
    runtime: Runtime,
    threads: ThreadPoolExecutor,
    gate: str,
) -> None:
    running = streams(client, threads, gate, 2)
    until(lambda: len(stub.seen("duo-1")) == 1, "one of them at duo-1")
    reload(balancer, runtime)
    told: list[Step] = []
    ended = threads.submit(drain, fleet, told)
    until_it_waits(told, ended)
    assert told[-1].streams == 1, "the old process's"
    said = observe(fleet, ["duo-1"]).balancers[NODE]
    assert (said.old_unknown, said.engines["duo-1"].old_streams) == ("", 1)
    stub.gates.add(gate)
    assert ended.result().code is Exit.DONE
    assert all(one.result().complete for one in running)
    # As the service does before each reload.
    balancer.node.run(f"cat > {STATE}/server-state", balancer.runtime("show servers state").encode())
    reload(balancer, runtime)
    assert observe(fleet, ["duo-1"]).balancers[NODE].engines["duo-1"].drained


def reload(balancer: Balancer, runtime: Runtime) -> None:
    process = runtime.information()["Pid"]
    balancer.signal_reload()
    until(lambda: runtime.information()["Pid"] != process, "another process")


def test_it_comes_back_slowly_after_a_token_and_a_warm_up(
    client: httpx.Client, balancer: Balancer, stub: Stub, fleet: Fleet
) -> None:
    assert drain(fleet).code is Exit.DONE
    wish = back.Wish(("duo-1",))
    seen, names, ended = back.plan(fleet, wish)
    assert ended is None
    result = back.undrain(fleet, wish, seen, names, lambda text: None)
    assert result.code is Exit.DONE, result
    warmed = stub.seen("duo-1")
    assert len(warmed) == 6
    assert {one.headers["authorization"] for one in warmed} == {f"Bearer {ENGINE_KEY}"}
    for _ in range(6):
        assert client.post(CHAT, json=chat()).status_code == 200
    assert len(stub.seen("duo-1")) > 6
    assert not balancer.node.run(f"ls {STATE}/drains").strip()


def test_an_engine_that_gives_no_token_stays_out(balancer: Balancer, stub: Stub, fleet: Fleet) -> None:
    assert drain(fleet).code is Exit.DONE
    stub.refuse("duo-1")
    wish = back.Wish(("duo-1",))
    seen, names, _ = back.plan(fleet, wish)
    result = back.undrain(fleet, wish, seen, names, lambda text: None)
    assert result.code is Exit.HELD
    assert "refused" in result.said
    place = observe(fleet, ["duo-1"]).balancers[NODE].engines["duo-1"]
    assert (place.drained, place.serving) == (True, False)
    steps: list[Step] = []
    assert drain(fleet, steps).code is Exit.DONE
    assert [step.kind for step in steps] == ["done"], "nobody listens there, so nothing runs there: no wait"
