"""Routes that depart from the model's name, and what pools do when their queue fills."""

from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.crowd import Crowd
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub

ANY: dict[str, Any] = {"names": [], "lanes": [], "prompt_tokens_over": None, "stream": None}
LONG = "x" * 4000


@pytest.fixture(scope="module", autouse=True)
def routed(restored: Balancer, stub_address: str) -> None:
    service = plan(stub_address, FIRST_PORT)
    service["routes"] = [
        {**ANY, "name": "not-for-all", "pool": "many", "names": ["chat"]},
        {**ANY, "name": "long", "pool": "wide", "names": ["duo", "chat"], "prompt_tokens_over": 500},
        {**ANY, "name": "batch-streams", "pool": "hashed", "lanes": ["batch"], "stream": True},
        {**ANY, "name": "rest-of-batch", "pool": "narrow", "lanes": ["batch"], "names": ["duo"]},
    ]
    none: dict[str, Any] = {"names": [], "lanes": [], "header": None}
    service["scenarios"] = {
        "nightly": none | {"lanes": ["batch"]},
        "rag": none | {"header": "x-scenario"},
        "summary": none | {"header": "x-scenario"},
        "talk": none | {"names": ["chat"]},
    }
    service["pools"]["many"]["tenants"] = ["batch"]
    service["pools"]["narrow"]["overload"] = [
        rule("shorter_replies", 40, max_tokens=64, lanes=["interactive"]),
        rule("lower_prompt_cap", 40, prompt_tokens=500, lanes=["batch"]),
        rule("other_pool", 90, pool="wide"),
    ]
    service["pools"]["hashed"]["release"] = "ordered-1"
    service["releases"] = {"ordered-1": {"flags": {"scheduling-policy": "priority"}}}
    restored.reload(candidate(service))


def rule(action: str, over: int, lanes: list[str] | None = None, **value: Any) -> dict[str, Any]:
    values = {"pool": None, "max_tokens": None, "prompt_tokens": None} | value
    return {"action": action, "queue_percent_over": over, "lanes": lanes or [], **values}


@pytest.mark.parametrize(
    ("tenant", "body", "pool", "route"),
    [
        ("demo", chat(), "duo", "-"),
        ("demo", chat(content=LONG), "wide", "long"),
        ("demo", chat("narrow", content=LONG), "narrow", "-"),
        # The first route names a pool that is not on this key's menu, so the second counts.
        ("demo", chat("chat", content=LONG), "wide", "long"),
        ("batch", chat("chat", content=LONG), "many", "not-for-all"),
        ("batch", chat("duo"), "narrow", "rest-of-batch"),
        ("batch", chat("duo", stream=True), "hashed", "batch-streams"),
        ("batch", chat("duo", content=LONG), "wide", "long"),
        ("narrow", chat("duo", content=LONG), "duo", "-"),
    ],
)
def test_the_first_route_that_matches_and_is_allowed_decides(
    client: httpx.Client, balancer: Balancer, tenant: str, body: dict[str, Any], pool: str, route: str
) -> None:
    answer = client.post(CHAT, json=body, headers={"authorization": f"Bearer {KEYS[tenant]}"})
    entry = balancer.log_entry(answer.headers["x-request-id"])
    assert (answer.status_code, entry["pool"], entry["route"]) == (200, pool, route)


@pytest.mark.parametrize(
    ("tenant", "model", "said", "scenario"),
    [
        ("demo", "duo", None, "-"),
        ("demo", "chat", None, "talk"),
        ("demo", "duo", "rag", "rag"),
        ("demo", "chat", "summary", "summary"),
        ("demo", "duo", "talk", "-"),
        ("demo", "duo", "invented", "-"),
        ("batch", "duo", None, "nightly"),
        ("batch", "chat", None, "nightly"),
        ("batch", "duo", "rag", "rag"),
    ],
)
def test_a_request_is_logged_with_its_scenario(
    client: httpx.Client, balancer: Balancer, tenant: str, model: str, said: str | None, scenario: str
) -> None:
    """A header that the definition names comes first, then the order of the scenarios' names."""
    headers = {"authorization": f"Bearer {KEYS[tenant]}"} | ({"x-scenario": said} if said else {})
    answer = client.post(CHAT, json=chat(model), headers=headers)
    assert balancer.log_entry(answer.headers["x-request-id"])["scenario"] == scenario


def waiting(balancer: Balancer) -> int:
    return int(balancer.statistics()["pool-narrow-stable", "BACKEND"]["qcur"])


def test_a_filling_queue_degrades_as_declared_and_says_so(balancer: Balancer, stub: Stub, crowd: Crowd) -> None:
    """One slot, two places: one request waiting is 50 %, two are 100 %."""
    running = crowd.ask(chat("narrow", ttft=1.2))
    eventually(lambda: stub.seen("narrow-1"), "one request on the only slot")
    first = crowd.ask(chat("narrow"))
    eventually(lambda: waiting(balancer) == 1, "half the queue is taken")
    refused = crowd.ask(chat("narrow", content=LONG), tenant="batch").result()
    assert (refused.status_code, error_of(refused)["code"]) == (413, "prompt_too_long_now")
    assert refused.headers["x-rackserve-degraded"] == "lower_prompt_cap"
    second = crowd.ask(chat("narrow", name="second") | {"max_tokens": 500})
    eventually(lambda: waiting(balancer) == 2, "all of the queue is taken")
    moved = crowd.ask(chat("narrow")).result()
    assert (moved.status_code, moved.headers["x-rackserve-degraded"]) == (200, "other_pool")
    assert len(stub.seen("wide-1", "wide-2")) == 1
    answers = [running.result(), first.result(), second.result()]
    degraded = [answer.headers.get("x-rackserve-degraded") for answer in answers]
    assert degraded == [None, None, "shorter_replies"], "declared by the request before it, and said"
    lengths = {seen.body["stub"].get("name"): seen.body.get("max_tokens") for seen in stub.seen("narrow-1")}
    assert lengths == {None: None, "second": 64}


def test_without_load_nothing_is_degraded(client: httpx.Client) -> None:
    seen = stream(client, chat("narrow", stream=True))
    assert "x-rackserve-degraded" not in seen.headers


def test_a_client_cannot_set_its_place_in_an_engine_that_orders(client: httpx.Client, stub: Stub) -> None:
    refused = client.post(CHAT, json=chat("hashed") | {"priority": -1})
    assert (refused.status_code, error_of(refused)["code"]) == (400, "priority_not_allowed")
    assert not stub.seen()
    probe = {"authorization": f"Bearer {KEYS['probe']}"}
    assert client.post(CHAT, json=chat("hashed") | {"priority": -1}, headers=probe).status_code == 200
    assert client.post(CHAT, json=chat("hashed")).status_code == 200
    assert client.post(CHAT, json=chat("duo") | {"priority": -1}).status_code == 200, "the others take no notice"
