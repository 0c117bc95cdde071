"""The time that a whole answer may take: plain answers and streams, those that talk and those that fall silent."""

import json
from typing import Any

import httpx
import openai
import pytest

from gateway.asking import CHAT, chat, error_of, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub

LIMIT = 1.0
MESSAGE = "The answer took longer than the 1 s that requests of the lane batch have. Ask for fewer tokens."
BATCH = {"authorization": f"Bearer {KEYS['batch']}"}


@pytest.fixture(scope="module", autouse=True)
def short(restored: Balancer, stub_address: str) -> None:
    service = plan(stub_address, FIRST_PORT)
    service["lanes"]["batch"]["generation_timeout_seconds"] = LIMIT
    for pool in service["pools"].values():
        pool["timeouts"]["silence_seconds"] = 5
    restored.reload(candidate(service))


@pytest.mark.parametrize(
    "how", [{"gap": 0.1, "tokens": 100}, {"tokens": 9, "silent_after": 3}], ids=["talking", "silent"]
)
def test_a_stream_over_its_time_ends_with_an_error_event(
    client: httpx.Client, balancer: Balancer, stub: Stub, how: dict[str, Any]
) -> None:
    seen = stream(client, chat(stream=True, **how), headers=BATCH)
    assert seen.status == 200
    assert seen.complete, "ended in order, not cut"
    (_, error), (at, done) = seen.events[-2:]
    expected = {"message": MESSAGE, "type": "server_error", "param": None, "code": "generation_timeout"}
    assert (json.loads(error), done) == ({"error": expected}, "[DONE]")
    assert LIMIT * 0.9 < at < LIMIT + 2
    before = [json.loads(text)["choices"][0]["delta"]["content"] for _, text in seen.events[:-2]]
    assert before == [f"t{number} " for number in range(len(before))]
    assert len(before) >= 3
    eventually(lambda: stub.seen()[0].abandoned, "the engine is told to stop")
    assert balancer.log_entry(seen.headers["x-request-id"])["refused"] == "generation_timeout"
    assert client.post(CHAT, json=chat(), headers=BATCH).status_code == 200, "the connection goes on"


def test_the_official_client_raises_the_error(balancer: Balancer) -> None:
    official = openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["batch"], max_retries=0)
    body = {"stub": {"gap": 0.1, "tokens": 100}}
    events = official.chat.completions.create(
        model="duo", messages=[{"role": "user", "content": "hi"}], stream=True, extra_body=body
    )
    with pytest.raises(openai.APIError) as caught:
        for _ in events:
            pass
    assert (caught.value.message, caught.value.code) == (MESSAGE, "generation_timeout")


def test_a_plain_answer_over_its_time_is_504(client: httpx.Client, stub: Stub) -> None:
    answer = client.post(CHAT, json=chat(ttft=4), headers=BATCH)
    assert answer.status_code == 504
    assert error_of(answer)["code"] == "generation_timeout"
    message = "The answer took too long: an answer in the lane batch has 1 s, with at most 5 s of silence in a stream. "
    assert error_of(answer)["message"] == f"{message}Ask for fewer tokens."
    assert answer.elapsed.total_seconds() < LIMIT + 2
    eventually(lambda: stub.seen()[0].abandoned, "the engine is told to stop")


def test_another_lane_has_its_own_time(client: httpx.Client) -> None:
    seen = stream(client, chat(stream=True, gap=0.1, tokens=20))
    assert (seen.complete, len(seen.tokens)) == (True, 20)
    assert client.post(CHAT, json=chat(ttft=1.5)).status_code == 200


def test_a_lowered_request_has_the_time_of_its_new_lane(client: httpx.Client) -> None:
    seen = stream(client, chat(stream=True, gap=0.1, tokens=30), headers={"x-lane": "batch"})
    assert "generation_timeout" in seen.events[-2][1]
