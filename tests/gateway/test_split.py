"""The split between the tracks: one draw against one map value, whatever the number of engines; nobody else chooses."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, CONTEXT, chat, error_of
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, default_pools, plan, pool
from gateway.stub import Stub

ENGINES = ("tried-1", "tried-2", "tried-3")
SAMPLE = 1000


def tried(address: str, **canary: Any) -> dict[str, Any]:
    """A plan whose pool `tried` has an engine for each track."""
    pools = default_pools() | {"tried": pool(["tried"], list(ENGINES), slots=64, canary=canary)}
    return plan(address, FIRST_PORT, pools)


@pytest.fixture(scope="module")
def tried_engines(stub_address: str) -> Iterator[Stub]:
    every = tried(stub_address)["engines"]
    stub = Stub(stub_address, {one["name"]: one["port"] for one in every if one["pool"] == "tried"})
    stub.open()
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def service(running: Balancer, engines: Stub, tried_engines: Stub, stub_address: str) -> Iterator[Balancer]:
    running.reload(candidate(tried(stub_address)))
    eventually(running.all_up, "every engine in service")
    move(running)
    yield running
    running.reload(candidate(plan(stub_address, FIRST_PORT)))


@pytest.fixture(autouse=True)
def unshared(service: Balancer) -> Iterator[None]:
    yield
    service.runtime("clear map maps/shares.map")
    move(service)


def move(balancer: Balancer, **tracks: str) -> None:
    """Each engine to its track: tried-1 is stable, tried-2 baseline, tried-3 canary, unless said otherwise."""
    place = {"tried-1": "stable", "tried-2": "baseline", "tried-3": "canary"}
    place |= {name.replace("_", "-"): track for name, track in tracks.items()}
    commands = [
        f"set server pool-tried-{track}/{engine} state {'ready' if place[engine] == track else 'maint'}"
        for engine in ENGINES
        for track in ("stable", "baseline", "canary")
    ]
    balancer.runtime("; ".join(commands))


def share(balancer: Balancer, canary: int, baseline: int) -> None:
    """Thousandths."""
    balancer.runtime(f"clear map maps/shares.map; add map maps/shares.map tried {canary}/{baseline}")


def ask(balancer: Balancer, number: int, headers: Callable[[int], dict[str, str]] = lambda _: {}) -> list[str]:
    """The track that each of so many answers names; '' where none is named."""

    async def all_of_them() -> list[str]:
        limits = httpx.Limits(max_connections=32)
        authorization = {"authorization": f"Bearer {KEYS['demo']}"}
        async with httpx.AsyncClient(
            base_url=balancer.url, limits=limits, timeout=httpx.Timeout(30, pool=None), verify=CONTEXT
        ) as client:

            async def one(which: int) -> str:
                answer = await client.post(CHAT, json=chat("tried"), headers=authorization | headers(which))
                assert answer.status_code == 200, answer.text
                return answer.headers.get("x-track", "")

            return list(await asyncio.gather(*(one(which) for which in range(number))))

    return asyncio.run(all_of_them())


def within(count: int, number: int, part: float) -> bool:
    """Five standard deviations: wrong once in a million runs."""
    return abs(count - number * part) <= 5 * math.sqrt(number * part * (1 - part))


def test_without_a_share_all_is_stable_and_no_track_is_named(service: Balancer) -> None:
    assert set(ask(service, 50)) == {""}


@pytest.mark.parametrize(("canary", "baseline"), [(50, 50), (250, 0)])
def test_the_shares_are_those_of_the_map(service: Balancer, canary: int, baseline: int) -> None:
    share(service, canary, baseline)
    counts = Counter(ask(service, SAMPLE))
    assert within(counts["canary"], SAMPLE, canary / 1000), counts
    assert within(counts["baseline"], SAMPLE, baseline / 1000), counts
    assert counts["stable"] == SAMPLE - counts["canary"] - counts["baseline"]


def test_the_track_named_is_the_track_that_served(service: Balancer) -> None:
    share(service, 300, 300)
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    served = {"stable": "tried-1", "baseline": "tried-2", "canary": "tried-3"}
    for _ in range(15):
        answer = httpx.post(f"{service.url}{CHAT}", json=chat("tried"), headers=headers, verify=CONTEXT)
        entry = service.log_entry(answer.headers["x-request-id"])
        assert entry["server"] == served[answer.headers["x-track"]]
        assert (entry["track"], entry["missed_by"]) == (answer.headers["x-track"], "-")


def test_one_value_takes_everything_back(service: Balancer) -> None:
    share(service, 500, 0)
    assert "canary" in ask(service, 50)
    service.runtime("set map maps/shares.map tried 0/0")
    assert set(ask(service, 200)) == {"stable"}


def test_a_track_without_an_engine_hands_over_to_stable_and_the_log_says_so(service: Balancer) -> None:
    share(service, 1000, 0)
    move(service, tried_3="stable")
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    answer = httpx.post(f"{service.url}{CHAT}", json=chat("tried"), headers=headers, verify=CONTEXT)
    assert (answer.status_code, answer.headers["x-track"]) == (200, "stable")
    entry = service.log_entry(answer.headers["x-request-id"])
    assert (entry["track"], entry["missed_by"]) == ("stable", "canary")


def forced(balancer: Balancer, tenant: str, track: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEYS[tenant]}", "x-track": track}
    return httpx.post(f"{balancer.url}{CHAT}", json=chat("tried"), headers=headers, verify=CONTEXT, timeout=10)


@pytest.mark.parametrize("track", ["stable", "baseline", "canary"])
def test_the_probes_key_chooses_its_track_also_without_a_share(service: Balancer, track: str) -> None:
    answer = forced(service, "probe", track)
    assert (answer.status_code, answer.headers["x-track"]) == (200, track)
    assert service.log_entry(answer.headers["x-request-id"])["track"] == track


def test_no_other_key_chooses_and_the_engine_is_not_told(service: Balancer, tried_engines: Stub) -> None:
    tried_engines.reset()
    answer = forced(service, "demo", "canary")
    assert answer.status_code == 200
    assert "x-track" not in answer.headers
    assert service.log_entry(answer.headers["x-request-id"])["track"] == "stable"
    (seen,) = tried_engines.seen()
    assert "x-track" not in seen.headers


def test_a_forced_track_without_an_engine_is_a_clear_refusal(service: Balancer) -> None:
    move(service, tried_3="stable")
    answer = forced(service, "probe", "canary")
    assert (answer.status_code, error_of(answer)["code"]) == (503, "no_engine")


def test_a_session_keeps_its_track_while_the_share_rises(service: Balancer, stub_address: str) -> None:
    service.reload(candidate(tried(stub_address, stickiness="session_header", session_header="x-session")))
    eventually(service.all_up, "every engine in service")
    move(service)

    def session(which: int) -> dict[str, str]:
        return {"x-session": f"session-{which}"}

    share(service, 100, 0)
    first = ask(service, 300, session)
    assert first == ask(service, 300, session)
    share(service, 300, 0)
    later = ask(service, 300, session)
    assert all(now == "canary" for before, now in zip(first, later, strict=True) if before == "canary")
    assert later.count("canary") > first.count("canary") > 0
    service.reload(candidate(tried(stub_address)))
    eventually(service.all_up, "every engine in service")
