"""One tenant at fifty times its limit: the others' p95 changes by at most a tenth."""

import asyncio

from gateway.asking import chat
from gateway.plan import KEYS

from drills.conftest import Prepare
from drills.load import Planned, Seen, first_tokens, percentile, poisson, run
from drills.results import store

SECONDS = 20
LIMIT_PER_MINUTE = 60
QUIET = chat("duo", stream=True, ttft=0.1, gap=0.02, tokens=10)
ROUNDS = 2


def traffic(noise: bool) -> list[Planned]:
    quiet = [Planned(moment, "quiet", KEYS["demo"], QUIET) for moment in poisson(20, SECONDS, seed=3)]
    rate = 50 * LIMIT_PER_MINUTE / 60
    noisy = [Planned(moment, "noisy", KEYS["batch"], QUIET) for moment in poisson(rate, SECONDS, seed=4)]
    return sorted(quiet + (noisy if noise else []), key=lambda planned: planned.at_seconds)


def test_a_tenant_at_fifty_times_its_limit_hardly_changes_the_others_p95(prepared: Prepare) -> None:
    balancer = prepared(limits={"requests_per_minute": LIMIT_PER_MINUTE}, slots=16, max_requests=32, timeout_seconds=10)
    alone: list[Seen] = []
    beside: list[Seen] = []
    for _ in range(ROUNDS):
        alone += asyncio.run(run(balancer.api, traffic(noise=False)))
        beside += asyncio.run(run(balancer.api, traffic(noise=True)))
    before, with_noise = (percentile(first_tokens(seen, "quiet"), 0.95) for seen in (alone, beside))
    noisy = [one for one in beside if one.kind == "noisy"]
    refused = [one for one in noisy if one.status == 429]
    store(
        "noisy",
        {
            "limit_requests_per_minute": LIMIT_PER_MINUTE,
            "noisy_requests": len(noisy),
            "noisy_refused": len(refused),
            "others_p95_first_token_seconds": {"alone": round(before, 4), "beside": round(with_noise, 4)},
            "change_percent": round((with_noise / before - 1) * 100, 1),
        },
    )
    assert all(one.complete for one in alone + beside if one.kind == "quiet")
    assert len(refused) > 0.9 * len(noisy)
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert with_noise <= 1.10 * before, f"p95 of the first token: {before:.3f} s alone, {with_noise:.3f} s beside noise"
