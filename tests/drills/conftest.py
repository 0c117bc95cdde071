"""Drills: violence and overload on real parts, with figures. They use the gateway's node, balancer and stub engines."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway.balancer import Balancer, candidate, eventually
from gateway.conftest import engines, node, running, stub_address  # noqa: F401  (fixtures)
from gateway.plan import FIRST_PORT, plan, pool
from gateway.stub import Stub

Prepare = Callable[..., Balancer]


@pytest.fixture
def prepared(running: Balancer, engines: Stub, stub_address: str) -> Iterator[Prepare]:  # noqa: F811
    """Puts a plan in service whose pool `duo` has two engines, and gives the balancer; afterwards the usual plan."""

    def prepare(change: Callable[[dict[str, Any]], dict[str, Any]], slots: int = 8, **queue: Any) -> Balancer:
        service = plan(stub_address, FIRST_PORT)
        service["pools"]["duo"] = pool(["duo", "chat"], ["duo-1", "duo-2"], slots=slots, queue=queue)
        running.reload(candidate(change(service)))
        engines.reset()
        eventually(running.all_up, "every engine in service", 30)
        return running

    yield prepare
    running.reload(candidate(plan(stub_address, FIRST_PORT)))
