"""Drills: violence and overload on real parts, with figures. They use the gateway's node, balancer and stub engines."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway.balancer import Balancer, candidate, eventually
from gateway.conftest import engines, node, running, stub_address  # noqa: F401  (fixtures)
from gateway.plan import FIRST_PORT, default_lanes, default_pools, limit, plan, pool
from gateway.stub import Stub

Prepare = Callable[..., Balancer]


@pytest.fixture
def prepared(running: Balancer, engines: Stub, stub_address: str) -> Iterator[Prepare]:  # noqa: F811
    """Puts a plan in service and gives the balancer; afterwards the usual plan.

    Its pool `duo` has two engines; `batch`: what the lane of that name differs in; `limits`: of the tenant in that lane.
    """

    def prepare(
        batch: dict[str, Any] | None = None, slots: int = 8, limits: dict[str, Any] | None = None, **queue: Any
    ) -> Balancer:
        lanes, pools = default_lanes(), default_pools()
        lanes["batch"] |= batch or {}
        pools["duo"] = pool(["duo", "chat"], ["duo-1", "duo-2"], slots=slots, queue=queue)
        service = plan(stub_address, FIRST_PORT, pools, lanes)
        running.reload(candidate(limit(service, "batch", **limits) if limits else service))
        engines.reset()
        eventually(running.all_up, "every engine in service", 30)
        return running

    yield prepare
    running.reload(candidate(plan(stub_address, FIRST_PORT)))
