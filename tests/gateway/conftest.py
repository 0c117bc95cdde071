"""One balancer and its stub engines for all gateway tests. Only tests that need another configuration reload it."""

from collections.abc import Iterator

import httpx
import pytest

from gateway.asking import CONTEXT
from gateway.balancer import Balancer, Node, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub

# The lab's bridge: the host as its nodes see it.
STUB_ADDRESS = "198.18.0.1"


@pytest.fixture(scope="session")
def stub_address() -> str:
    return STUB_ADDRESS


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()


@pytest.fixture(scope="session")
def engines(stub_address: str) -> Iterator[Stub]:
    ports = {engine["name"]: engine["port"] for engine in plan(stub_address, FIRST_PORT)["engines"]}
    stub = Stub(stub_address, ports)
    stub.open()
    yield stub
    stub.close()


@pytest.fixture(scope="session")
def running(node: Node, engines: Stub, stub_address: str) -> Iterator[Balancer]:
    service = plan(stub_address, FIRST_PORT)
    balancer = Balancer(node, service["ports"]["api"], service["ports"]["stats"])
    balancer.prepare()
    balancer.start(candidate(service))
    yield balancer
    balancer.stop()


@pytest.fixture
def stub(engines: Stub) -> Stub:
    return engines


@pytest.fixture
def balancer(running: Balancer, engines: Stub) -> Balancer:
    """The balancer with every engine in service and nothing running."""
    engines.reset()
    eventually(running.all_up, "every engine in service")
    eventually(lambda: not any(engine.running for engine in engines.engines.values()), "no request left over")
    engines.reset()
    return running


@pytest.fixture
def client(balancer: Balancer) -> Iterator[httpx.Client]:
    """A client with the key of the tenant demo."""
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    with httpx.Client(base_url=balancer.url, headers=headers, timeout=15, verify=CONTEXT) as client:
        yield client


@pytest.fixture
def crowd(balancer: Balancer) -> Iterator[Crowd]:
    """Many clients at once."""
    crowd = Crowd(balancer.url)
    yield crowd
    crowd.close()


@pytest.fixture(scope="module")
def restored(running: Balancer, stub_address: str) -> Iterator[Balancer]:
    """For modules that reload the balancer with a service of their own: the next module finds the common one again."""
    yield running
    running.reload(candidate(plan(stub_address, FIRST_PORT)))
