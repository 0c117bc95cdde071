"""The hand-over of a trace's id: the client's own, or one that the balancer makes for a share of the requests."""

import re

import httpx
import pytest

from gateway.asking import CHAT, chat
from gateway.balancer import Balancer, candidate
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MADE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


@pytest.fixture(scope="module", autouse=True)
def traced(restored: Balancer, stub_address: str) -> None:
    """Every request of whoever says nothing about it."""
    restored.reload(candidate(with_share(stub_address, 100)))


def with_share(stub_address: str, percent: float) -> dict[str, object]:
    tracing = {"endpoint": "http://192.0.2.1:4318/v1/traces", "protocol": "http", "sample_percent": percent}
    return {**plan(stub_address, FIRST_PORT), "tracing": tracing}


def asked(client: httpx.Client, stub: Stub, headers: list[tuple[str, str]]) -> tuple[str | None, str | None, str]:
    """traceparent and tracestate as the engine got them, and the request's id."""
    done = client.post(CHAT, json=chat(), headers=[*client.headers.multi_items(), *headers])
    seen = stub.seen()[-1].headers
    return seen.get("traceparent"), seen.get("tracestate"), done.headers["x-request-id"]


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_clients_trace_is_carried_on_as_it_came(
    client: httpx.Client, balancer: Balancer, stub: Stub, flags: str
) -> None:
    own = f"00-{TRACE}-{SPAN}-{flags}"
    parent, state, request_id = asked(client, stub, [("traceparent", own), ("tracestate", "vendor=1")])
    assert (parent, state) == (own, "vendor=1")
    assert balancer.log_entry(request_id)["trace_id"] == TRACE


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"00-{TRACE.upper()}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{SPAN}-01-more")],
        [("traceparent", f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01")],
    ],
    ids=["none", "nonsense", "no-trace", "no-span", "capitals", "too-long", "two"],
)
def test_without_a_usable_one_the_balancer_begins_a_trace(
    client: httpx.Client, balancer: Balancer, stub: Stub, given: list[tuple[str, str]]
) -> None:
    parent, state, request_id = asked(client, stub, [*given, ("tracestate", "vendor=1")])
    made = MADE.fullmatch(parent or "")
    assert made, parent
    assert made[1] != TRACE
    assert state is None, "it belonged to nothing"
    assert balancer.log_entry(request_id)["trace_id"] == made[1]


def test_two_requests_have_two_traces(client: httpx.Client, stub: Stub) -> None:
    first, second = (asked(client, stub, [])[0] for _ in range(2))
    assert first != second


def test_of_two_headers_the_engine_gets_one(client: httpx.Client, stub: Stub) -> None:
    other = f"00-{'a' * 32}-{SPAN}-01"
    parent, _, _ = asked(client, stub, [("traceparent", f"00-{TRACE}-{SPAN}-00"), ("traceparent", other)])
    assert parent == other


def test_the_racks_own_questions_begin_no_trace(balancer: Balancer, stub: Stub) -> None:
    headers = {"authorization": f"Bearer {KEYS['probe']}"}
    done = httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers=headers)
    assert "traceparent" not in stub.seen()[-1].headers
    assert balancer.log_entry(done.headers["x-request-id"])["trace_id"] == "-"


def test_a_share_is_traced_and_the_others_carry_nothing(
    client: httpx.Client, restored: Balancer, stub: Stub, stub_address: str
) -> None:
    restored.reload(candidate(with_share(stub_address, 50)))
    stub.reset()
    for _ in range(60):
        client.post(CHAT, json=chat())
    parents = [seen.headers.get("traceparent") for seen in stub.seen()]
    made = [one for one in parents if one is not None]
    # Fewer than 10 or more than 50 of 60: less than once in 10 million runs.
    assert 10 <= len(made) <= 50
    assert all(MADE.fullmatch(one) for one in made)
