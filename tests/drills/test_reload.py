"""A reload under 200 open streams cuts none of them."""

import asyncio

from gateway.asking import chat
from gateway.balancer import Balancer, candidate
from gateway.plan import FIRST_PORT, KEYS, plan

from drills.conftest import Prepare
from drills.load import Planned, run
from drills.results import store

STREAMS = 200


def test_a_reload_cuts_none_of_two_hundred_streams(prepared: Prepare, stub_address: str) -> None:
    balancer = prepared(slots=STREAMS, max_requests=STREAMS, timeout_seconds=10)
    body = chat("duo", stream=True, ttft=0.1, gap=0.25, tokens=40)

    async def drill() -> tuple[list[bool], int]:
        streams = asyncio.create_task(run(balancer.api, [Planned(0, "stream", KEYS["demo"], body)] * STREAMS, 120))
        while balancer_running(balancer) < STREAMS and not streams.done():
            await asyncio.sleep(0.2)
        running = balancer_running(balancer)
        await asyncio.to_thread(balancer.reload, candidate(plan(stub_address, FIRST_PORT)))
        return [one.complete for one in await streams], running

    complete, running = asyncio.run(drill())
    store("reload", {"streams": STREAMS, "open_at_the_reload": running, "cut": complete.count(False)})
    assert running == STREAMS, f"only {running} streams were open when the reload came"
    assert complete.count(False) == 0


def balancer_running(balancer: Balancer) -> int:
    rows = balancer.statistics()
    return int(rows["pool-duo-stable", "BACKEND"]["scur"])
