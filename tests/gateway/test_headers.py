"""What the balancer adds to requests and answers and what it takes away; and the models of each tenant."""

import re
import secrets

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer
from gateway.plan import KEYS
from gateway.stub import Stub

INTERNAL = {
    "x-vllm-priority": "-5",
    "X-RackServe-Tenant": "other",
    "x-rackserve-track": "canary",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-proto": "https",
    "forwarded": "for=10.0.0.1",
}


def as_tenant(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def test_internal_headers_of_a_client_do_not_reach_the_engine(client: httpx.Client, stub: Stub) -> None:
    client.post(CHAT, json=chat(), headers={**INTERNAL, "x-my-own": "stays"})
    (seen,) = stub.seen()
    assert seen.headers["x-my-own"] == "stays"
    assert not {name.lower() for name in INTERNAL} & set(seen.headers)


@pytest.mark.parametrize("streamed", [True, False])
def test_internal_headers_of_the_engine_do_not_reach_the_client(client: httpx.Client, streamed: bool) -> None:
    headers = stream(client, chat(stream=True)).headers if streamed else client.post(CHAT, json=chat()).headers
    assert not [name for name in headers if name.startswith(("x-vllm-", "x-rackserve-"))]
    assert "server" not in headers


def test_only_the_internal_lane_is_told_which_engine_answered(balancer: Balancer) -> None:
    for tenant, expected in (("probe", True), ("demo", False), ("batch", False)):
        answer = httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers=as_tenant(tenant))
        assert (answer.headers.get("x-rackserve-engine") in {"duo-1", "duo-2"}) is expected, tenant


def test_a_harmless_request_id_is_kept(client: httpx.Client, stub: Stub) -> None:
    answer = client.post(CHAT, json=chat(), headers={"x-request-id": "order-17.part:2_b"})
    assert answer.headers["x-request-id"] == "order-17.part:2_b"
    assert stub.seen()[0].headers["x-request-id"] == "order-17.part:2_b"


@pytest.mark.parametrize(
    "given", [None, "short", "x" * 129, 'quote"d-identifier', "two words in it", "a,b,c,d,e,f,g,h"]
)
def test_any_other_request_id_is_replaced(client: httpx.Client, stub: Stub, given: str | None) -> None:
    answer = client.post(CHAT, json=chat(), headers={"x-request-id": given} if given else {})
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made)
    assert stub.seen()[0].headers["x-request-id"] == made


def test_every_refusal_carries_a_request_id(balancer: Balancer, client: httpx.Client) -> None:
    answers = [
        client.get("/nowhere"),
        client.get(CHAT),
        httpx.post(f"{balancer.url}{CHAT}", json=chat()),
        client.post(CHAT, content="{"),
        client.post(CHAT, json=chat("unknown")),
        client.post(CHAT, json=chat(content=secrets.token_hex(8), hang_up=True)),
        client.post(CHAT, json=chat(stream=True, ttft=3)),
        httpx.get(f"{balancer.url}/healthz"),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 401, 400, 404, 502, 504, 200]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)


def test_each_tenant_sees_its_own_models(balancer: Balancer, stub: Stub) -> None:
    def models(tenant: str) -> list[str]:
        answer = httpx.get(f"{balancer.url}/v1/models", headers=as_tenant(tenant))
        body = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert body["object"] == "list"
        assert all(set(model) == {"id", "object", "created", "owned_by"} for model in body["data"])
        return [model["id"] for model in body["data"]]

    assert models("demo") == ["duo", "chat", "hashed", "many", "narrow", "unqueued", "wide"]
    assert models("narrow") == ["duo", "chat"]
    assert not stub.seen(), "answered by the balancer itself"


def test_one_model_can_be_asked_for(balancer: Balancer) -> None:
    answer = httpx.get(f"{balancer.url}/v1/models/chat", headers=as_tenant("narrow"))
    assert answer.json() == {"id": "chat", "object": "model", "created": 0, "owned_by": "gateway"}
    for name in ("wide", "nothing", ""):
        missing = httpx.get(f"{balancer.url}/v1/models/{name}", headers=as_tenant("narrow"))
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"


def test_an_alias_reaches_the_same_pool_under_the_name_the_client_used(client: httpx.Client, stub: Stub) -> None:
    assert client.post(CHAT, json=chat("chat")).json()["model"] == "chat"
    assert stub.seen("duo-1", "duo-2")[0].body["model"] == "chat"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
def test_every_listed_path_reaches_an_engine_unchanged(client: httpx.Client, stub: Stub, path: str) -> None:
    assert client.post(f"{path}?trace=1", json=chat()).status_code == 200
    assert (stub.seen()[0].method, stub.seen()[0].path) == ("POST", f"{path}?trace=1")
