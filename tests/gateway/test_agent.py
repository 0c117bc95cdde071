"""The probe's agent-check in a real HAProxy: what its words do, what its silence does, and what an operator's drain outlives."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import httpx
import pytest
from rackserve.health.agent import Agent, Said

from gateway.asking import CHAT, chat
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, PROBE_PORT, plan
from gateway.stub import Stub

UP: Said = (True, "")


class Probe:
    """The real agent, in a thread of its own; a test says what it says of each engine."""

    def __init__(self, address: str) -> None:
        self.words: dict[str, Said] = {}
        self.asked = 0
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="probe", daemon=True)
        self._agent = Agent(self._said)

    def _said(self, engine: str) -> Said:
        self.asked += 1
        return self.words.get(engine, UP)

    def open(self) -> None:
        self._thread.start()
        self.listen()

    def listen(self) -> None:
        self._call(self._agent.open(self._address, PROBE_PORT))

    def die(self) -> None:
        self._call(self._close())

    async def _close(self) -> None:
        self._agent.close()

    def close(self) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def asked_again(self, times: int = 60) -> None:
        """Every engine at least some times more, by the one balancer."""
        before = self.asked
        eventually(lambda: self.asked >= before + times, "agent-checks")

    def _call(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=5)


@pytest.fixture(scope="module")
def probing(restored: Balancer, stub_address: str) -> Iterator[Probe]:
    probe = Probe(stub_address)
    probe.open()
    service = plan(stub_address, FIRST_PORT)
    service["ports"]["probe"] = PROBE_PORT
    restored.reload(candidate(service, haproxy_agent_check=True))
    yield probe
    probe.close()


@pytest.fixture
def probe(probing: Probe, balancer: Balancer) -> Iterator[Probe]:
    """Everything up, and up again afterwards."""
    probing.words.clear()
    yield probing
    probing.words.clear()
    eventually(balancer.all_up, "every engine in service again")


@pytest.fixture
def client(probe: Probe, balancer: Balancer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    with httpx.Client(base_url=balancer.url, headers=headers, timeout=15) as one:
        yield one


def down(balancer: Balancer, engine: str = "duo-1") -> bool:
    return balancer.state(engine).startswith("DOWN")


def test_an_engine_that_the_probe_calls_down_gets_no_request_until_it_calls_it_up(
    probe: Probe, client: httpx.Client, balancer: Balancer, stub: Stub
) -> None:
    probe.words["duo-1"] = (False, "hung: nothing has moved for 4.1 s")
    eventually(lambda: down(balancer), "duo-1 out", seconds=1)
    stub.reset()
    assert [client.post(CHAT, json=chat()).status_code for _ in range(8)] == [200] * 8
    assert not stub.seen("duo-1")
    row = balancer.statistics()["engines", "duo-1"]
    assert "nothing has moved" in row["last_agt"], "the operator sees why"
    probe.words["duo-1"] = UP
    eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back", seconds=1)
    assert [client.post(CHAT, json=chat()).status_code for _ in range(8)] == [200] * 8
    assert stub.seen("duo-1")


def test_a_probe_that_says_nothing_changes_nothing(probe: Probe, balancer: Balancer) -> None:
    probe.words["duo-1"] = (None, "new")
    probe.asked_again()
    assert balancer.state("duo-1") == "UP"
    probe.words["duo-1"] = (False, "hung")
    eventually(lambda: down(balancer), "duo-1 out")
    probe.words["duo-1"] = (None, "new")
    probe.asked_again()
    assert down(balancer)


def test_without_the_probe_the_balancers_own_check_rules(probe: Probe, balancer: Balancer, stub: Stub) -> None:
    probe.asked_again()
    probe.die()
    try:
        stub.engines["duo-1"].healthy = False
        eventually(lambda: down(balancer), "duo-1 out by its own check", seconds=2)
        stub.engines["duo-1"].healthy = True
        eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back by its own check", seconds=2)
    finally:
        probe.listen()


def test_the_last_word_of_a_dead_probe_stands_until_an_operator_speaks(probe: Probe, balancer: Balancer) -> None:
    probe.words["duo-1"] = (False, "hung")
    eventually(lambda: down(balancer), "duo-1 out")
    probe.die()
    try:
        eventually(
            lambda: "Connection refused" in balancer.statistics()["engines", "duo-1"]["last_agt"] or None, "no agent"
        )
        assert down(balancer)
        balancer.runtime("set server engines/duo-1 agent up")
        eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back by the operator's word")
    finally:
        probe.words["duo-1"] = UP
        probe.listen()


def test_an_operators_drain_outlives_every_word_of_the_probe(probe: Probe, balancer: Balancer) -> None:
    balancer.runtime("set server engines/duo-1 state drain")
    try:
        for word in (UP, (False, "hung"), UP):
            probe.words["duo-1"] = word
            probe.asked_again()
            assert "UP" not in balancer.state("duo-1"), word
        eventually(lambda: balancer.state("duo-1").startswith("DRAIN"), "duo-1 still drained")
        weight = balancer.statistics()["pool-duo-stable", "duo-1"]["weight"]
        assert weight == "100", "and no weight was touched"
    finally:
        balancer.runtime("set server engines/duo-1 state ready")
    eventually(lambda: balancer.state("duo-1") == "UP", "duo-1 back")
