"""Three times as much as the engines can do: interactive users hardly notice, batch is told when to come back."""

import asyncio
import json
import threading
import time

import httpx
import openai
from gateway.asking import CONTEXT, chat
from gateway.balancer import Balancer
from gateway.plan import KEYS

from drills.conftest import Prepare
from drills.load import Planned, Seen, first_tokens, percentile, poisson, run
from drills.results import store

SLOTS, ENGINES = 8, 2
FIRST, GAP, TOKENS = 0.2, 0.02, 20
SERVICE_SECONDS = FIRST + GAP * TOKENS
CAPACITY = SLOTS * ENGINES / SERVICE_SECONDS
QUEUE = 32
# Batch holds at most 6 of the 16 slots: with less left for others, they would wait for slots although they go first.
BATCH = {"slots_percent": 40, "queue_percent": 50, "queue_timeout_seconds": 5}
SECONDS = 20
REQUEST = chat("duo", stream=True, ttft=FIRST, gap=GAP, tokens=TOKENS)


def traffic(interactive: float, batch: float) -> list[Planned]:
    """Poisson arrivals of both lanes, as multiples of the capacity."""
    plan = [
        Planned(moment, kind, KEYS[tenant], REQUEST)
        for kind, tenant, rate, seed in (("interactive", "demo", interactive, 1), ("batch", "batch", batch, 2))
        if rate
        for moment in poisson(rate * CAPACITY, SECONDS, seed)
    ]
    return sorted(plan, key=lambda planned: planned.at_seconds)


class Watch(threading.Thread):
    """The longest queue seen, sampled while the load runs."""

    def __init__(self, balancer: Balancer) -> None:
        super().__init__(name="watch of the queue", daemon=True)
        self._balancer = balancer
        self._over = threading.Event()
        self.longest = 0

    def run(self) -> None:
        while not self._over.wait(0.25):
            rows = self._balancer.statistics()
            waiting = sum(
                int(row["qcur"] or 0)
                for (backend, server), row in rows.items()
                if backend.startswith("pool-duo-") and server == "BACKEND"
            )
            self.longest = max(self.longest, waiting)

    def end(self) -> int:
        self._over.set()
        self.join(timeout=10)
        return self.longest


def load(balancer: Balancer, interactive: float, batch: float) -> tuple[list[Seen], int]:
    watch = Watch(balancer)
    watch.start()
    seen = asyncio.run(run(balancer.api, traffic(interactive, batch)))
    return seen, watch.end()


def waits(balancer: Balancer) -> list[float]:
    """What interactive requests waited for a slot, by the balancer's own log."""
    entries = [
        json.loads(line) for line in balancer.log_lines() if line.startswith("{") and '"lane":"interactive"' in line
    ]
    return [float(entry["queue_ms"]) for entry in entries if entry["queue_ms"] >= 0]


def test_interactive_users_hardly_notice_three_times_the_capacity(prepared: Prepare) -> None:
    balancer = prepared(BATCH, slots=SLOTS, max_requests=QUEUE, timeout_seconds=10)
    calm, _ = load(balancer, interactive=0.4, batch=0)
    waited_before = len(waits(balancer))
    busy, longest = load(balancer, interactive=0.4, batch=2.6)
    before, under = (percentile(first_tokens(seen, "interactive"), 0.95) for seen in (calm, busy))
    shed = [one for one in busy if one.status in (429, 503)]
    store(
        "overload",
        {
            "capacity_per_second": round(CAPACITY, 1),
            "requests": len(busy),
            "interactive_p95_first_token_seconds": {"alone": round(before, 3), "overloaded": round(under, 3)},
            "ratio": round(under / before, 2),
            "batch_answered": sum(one.kind == "batch" and one.complete for one in busy),
            "batch_shed": len(shed),
            "interactive_p95_wait_at_the_balancer_ms": percentile(waits(balancer)[waited_before:], 0.95),
            "longest_queue": longest,
            "queue_bound": QUEUE,
        },
    )
    assert all(one.complete for one in calm), [one for one in calm if not one.complete][:3]
    refused = [one for one in busy if one.kind == "interactive" and not one.complete]
    assert not refused, f"interactive requests were refused: {refused[:3]}"
    assert under <= 1.5 * before, f"p95 of the first token: {before:.3f} s alone, {under:.3f} s under overload"
    assert shed, "batch beyond the capacity is shed"
    assert all(one.kind == "batch" and int(one.headers["retry-after"]) >= 1 for one in shed)
    assert longest <= QUEUE, f"{longest} requests waited at once; the bound is {QUEUE}"
    assert any(one.kind == "batch" and one.complete for one in busy), "batch is not starved"


def test_the_official_client_makes_no_storm_of_retries(prepared: Prepare) -> None:
    """Its retries wait for Retry-After: a caller sends at most 1 + max_retries requests, seconds apart."""
    balancer = prepared(BATCH, slots=1, max_requests=2, timeout_seconds=2)
    callers = 16

    async def call(client: openai.AsyncOpenAI) -> str:
        try:
            answer = await client.chat.completions.create(
                model="duo", messages=[{"role": "user", "content": "hi"}], extra_body={"stub": {"ttft": 2}}
            )
        except openai.APIStatusError as error:
            return f"{error.status_code}"
        return answer.choices[0].message.content or ""

    async def crowd() -> tuple[list[str], float, int]:
        sent: list[float] = []

        async def note(_: httpx.Request) -> None:
            sent.append(time.monotonic())

        http = httpx.AsyncClient(verify=CONTEXT, event_hooks={"request": [note]})
        client = openai.AsyncOpenAI(
            base_url=f"{balancer.url}/v1", api_key=KEYS["batch"], max_retries=2, timeout=30, http_client=http
        )
        async with client:
            answers = await asyncio.gather(*(call(client) for _ in range(callers)))
        early = sum(moment - min(sent) < 1 for moment in sent)
        return list(answers), max(sent) - min(sent), early if len(sent) <= 3 * callers else len(sent)

    answers, spread, early = asyncio.run(crowd())
    assert "503" in answers or "429" in answers, "the overload was too small to shed anything"
    assert early <= callers, f"{early} requests in the first second from {callers} callers: retries came at once"
    assert spread >= 1, "no caller came back later"
