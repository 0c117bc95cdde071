"""The pair behind one address: it answers, it moves when its holder stops serving, and it does not move back."""

import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from conftest import NODES, REPOSITORY, Service, answers, node, playbook
from rackserve.definition.load import load_inventory

BALANCERS = [name for name in NODES if name.startswith("lb")]


@pytest.fixture(scope="module")
def address() -> str:
    virtual = load_inventory(REPOSITORY / "inventory" / "lab").plan["virtual_address"]
    assert virtual, "the lab's inventory has no virtual address"
    return str(virtual["address"])


@pytest.fixture(autouse=True)
def both_serve(address: str) -> Iterator[None]:
    yield
    for name in BALANCERS:
        node(name, "systemctl", "start", "haproxy", "keepalived")
    within(lambda: len(holders(address)) == 1, "one holder at the end")


def holders(address: str) -> list[str]:
    return [
        name
        for name in BALANCERS
        if any(json.loads(node(name, "ip", "-json", "address", "show", "to", address) or "[]"))
    ]


def within(check: Callable[[], bool], what: str, seconds: float = 60) -> float:
    """How long it took until `check` held; fails with `what` after `seconds`, which is generous on purpose."""
    begin = time.monotonic()
    while not check():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begin


def healthy(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}:8080/healthz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_the_address_answers_with_a_real_engine(service: Service, address: str) -> None:
    within(lambda: len(holders(address)) == 1, "one balancer holds the address")
    for pool in service.pools:
        assert answers(f"http://{address}:8080", service.key, pool)


def test_it_moves_when_its_holder_stops_serving_and_does_not_move_back(
    service: Service, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    within(lambda: len(holders(address)) == 1 and healthy(address), "the address answers at the beginning")
    holder = holders(address)[0]
    other = next(name for name in BALANCERS if name != holder)
    node(holder, "systemctl", "stop", "haproxy")
    # The holder answers nothing from here on, so an answer is the other's.
    seconds = within(lambda: healthy(address), "the address answers again")
    with capsys.disabled():
        print(f"\n{address}: answered again {seconds:.1f} s after HAProxy stopped on {holder}")
    assert holders(address) == [other]
    assert answers(f"http://{address}:8080", service.key, service.pools[0])

    node(holder, "systemctl", "start", "haproxy")
    recovered = "journalctl --unit=keepalived --output=cat --lines=2 --grep='serves.*succeeded'"
    within(lambda: "succeeded" in node(holder, "sh", "-c", recovered, check=False), f"{holder} may hold it again")
    assert holders(address) == [other], "nobody takes it from a balancer that serves"


def test_a_second_run_leaves_the_address_where_it_is(address: str) -> None:
    within(lambda: len(holders(address)) == 1, "one balancer holds the address")
    before = holders(address)
    assert playbook("--tags", "keepalived").changed() == []
    assert holders(address) == before
