"""A prompt that kills its engine: who sees it, what the client is told, and for how long it is remembered."""

import secrets

import httpx
import openai
import pytest

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer
from gateway.plan import KEYS
from gateway.stub import Stub


def poison() -> dict[str, object]:
    """Another body each time: the balancer remembers."""
    return chat("hashed", content=secrets.token_hex(8), hang_up=True)


def test_a_prompt_that_kills_engines_reaches_two_of_three_and_then_none(client: httpx.Client, stub: Stub) -> None:
    body = poison()
    answers = [client.post(CHAT, json=body) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [502, 502, 400, 400, 400]
    assert [answer.headers.get("x-should-retry") for answer in answers[:2]] == ["false", "false"]
    assert error_of(answers[2])["code"] == "poisonous_request"
    assert len(stub.seen()) == 2
    assert client.post(CHAT, json=chat("hashed")).status_code == 200, "other prompts go on"


def test_the_official_client_does_not_send_it_a_second_time(balancer: Balancer, stub: Stub) -> None:
    client = openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["demo"], max_retries=2)
    body = poison()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="hashed",
            messages=[{"role": "user", "content": secrets.token_hex(8)}],
            extra_body={"stub": body["stub"]},
        )
    assert caught.value.status_code == 502
    assert len(stub.seen()) == 1


def test_different_prompts_that_die_with_one_engine_are_not_refused(client: httpx.Client, stub: Stub) -> None:
    bodies = [poison() for _ in range(4)]
    assert [client.post(CHAT, json=body).status_code for body in bodies] == [502] * 4
    survivors = [body | {"stub": {}} for body in bodies]
    assert [client.post(CHAT, json=body).status_code for body in survivors] == [200] * 4


def test_an_engine_that_says_502_itself_is_not_meant(client: httpx.Client, stub: Stub) -> None:
    answers = [client.post(CHAT, json=chat(status=502)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [502] * 4
    assert not [answer for answer in answers if "x-should-retry" in answer.headers]
    assert len(stub.seen()) == 4
