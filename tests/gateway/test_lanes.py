"""The lane of a request: the key's own or a less urgent one, what it changes, and what is refused."""

from collections.abc import Iterator

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, candidate
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub


def lane_of(balancer: Balancer, answer: httpx.Response) -> str:
    return str(balancer.log_entry(answer.headers["x-request-id"])["lane"])


def test_a_request_may_lower_its_lane(client: httpx.Client, balancer: Balancer, stub: Stub) -> None:
    answer = client.post(CHAT, json=chat(), headers={"x-lane": "batch"})
    assert (answer.status_code, lane_of(balancer, answer)) == (200, "batch")
    assert "x-lane" not in stub.seen()[0].headers, "the engine is not told"


def test_the_keys_own_lane_may_be_named(client: httpx.Client, balancer: Balancer) -> None:
    answer = client.post(CHAT, json=chat(), headers={"x-lane": "interactive"})
    assert (answer.status_code, lane_of(balancer, answer)) == (200, "interactive")


@pytest.mark.parametrize(
    ("tenant", "wanted", "allowed"),
    [
        ("batch", "interactive", "batch"),
        ("batch", "internal", "batch"),
        ("probe", "interactive", "internal batch"),
        ("demo", "internal", "interactive batch"),
        ("demo", "Batch", "interactive batch"),
        ("demo", "express", "interactive batch"),
        ("demo", "", "interactive batch"),
    ],
)
def test_a_lane_that_is_higher_or_unknown_is_refused(
    balancer: Balancer, stub: Stub, tenant: str, wanted: str, allowed: str
) -> None:
    headers = {"authorization": f"Bearer {KEYS[tenant]}", "x-lane": wanted}
    answer = httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers=headers)
    assert answer.status_code == 400
    message = f"A request of this key cannot go in the lane {wanted}: x-lane may only lower it. "
    message += f"Use one of: {allowed}; or leave x-lane out."
    error = {"message": message, "type": "invalid_request_error", "param": "x-lane", "code": "lane_not_allowed"}
    assert error_of(answer) == error
    assert not stub.seen()


@pytest.fixture
def without_batch_in_duo(balancer: Balancer, stub_address: str) -> Iterator[None]:
    service = plan(stub_address, FIRST_PORT)
    service["pools"]["duo"]["lanes"] = ["interactive", "internal"]
    service["pools"]["wide"]["lanes"] = ["batch"]
    balancer.reload(candidate(service))
    yield
    balancer.reload(candidate(plan(stub_address, FIRST_PORT)))


@pytest.mark.usefixtures("without_batch_in_duo")
def test_a_lowered_request_sees_the_pools_of_the_lower_lane(client: httpx.Client) -> None:
    assert client.post(CHAT, json=chat("duo")).status_code == 200
    assert client.post(CHAT, json=chat("wide")).status_code == 404
    assert client.post(CHAT, json=chat("duo"), headers={"x-lane": "batch"}).status_code == 404
    assert client.post(CHAT, json=chat("wide"), headers={"x-lane": "batch"}).status_code == 200
