"""The official client behaves as its users expect: tokens one by one, and the right exception for each refusal."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from gateway.balancer import Balancer, eventually
from gateway.plan import KEYS
from gateway.stub import Stub


@pytest.fixture
def official(balancer: Balancer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{balancer.url}/v1", api_key=KEYS["demo"], max_retries=0, timeout=15) as client:
        yield client


def ask(client: openai.OpenAI, model: str = "duo", **stub: object) -> str | None:
    messages = [{"role": "user", "content": "hi"}]
    answer = client.chat.completions.create(model=model, messages=messages, extra_body={"stub": stub})  # type: ignore[arg-type]
    return answer.choices[0].message.content


def test_a_completion_and_a_stream(official: openai.OpenAI) -> None:
    assert ask(official) == "t0 t1 t2"
    with official.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "hi"}], stream=True, extra_body={"stub": {"tokens": 5}}
    ) as events:
        assert [e.choices[0].delta.content for e in events if e.choices] == [f"t{number} " for number in range(5)]


def test_the_list_of_models(official: openai.OpenAI) -> None:
    assert [model.id for model in official.models.list()][:2] == ["duo", "chat"]
    assert official.models.retrieve("chat").owned_by == "gateway"


def test_a_wrong_key_is_an_authentication_error(balancer: Balancer) -> None:
    with (
        openai.OpenAI(base_url=f"{balancer.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(client)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id


def test_an_unknown_model_is_a_not_found_error(official: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(official, "gpt-9")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_missing_model_is_a_bad_request_error(official: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.post("/chat/completions", body={"messages": []}, cast_to=httpx.Response)
    assert caught.value.code == "missing_model"


def test_no_engine_is_an_internal_server_error_that_says_when_to_return(
    official: openai.OpenAI, balancer: Balancer, stub: Stub
) -> None:
    stub.engines["narrow-1"].healthy = False
    eventually(lambda: balancer.out("narrow"), "narrow-1 out of service")
    with pytest.raises(openai.InternalServerError) as caught:
        ask(official, "narrow")
    assert (caught.value.status_code, caught.value.code) == (503, "no_engine")
    assert caught.value.response.headers["retry-after"] == "5"


def test_silence_is_an_internal_server_error(official: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        official.chat.completions.create(
            model="duo", messages=[{"role": "user", "content": "hi"}], stream=True, extra_body={"stub": {"ttft": 3}}
        )
    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")


def test_a_stream_that_is_cut_raises_instead_of_ending(official: openai.OpenAI) -> None:
    body = {"stub": {"tokens": 6, "cut_after": 2}}
    events = official.chat.completions.create(
        model="duo", messages=[{"role": "user", "content": "hi"}], stream=True, extra_body=body
    )
    seen: list[str | None] = []
    with pytest.raises(openai.APIConnectionError):
        seen.extend(event.choices[0].delta.content for event in events)
    assert seen == ["t0 ", "t1 "]
