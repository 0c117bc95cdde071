"""A user's view: streams through each balancer from each pool, and clear refusals."""

import httpx
import openai
import pytest
from conftest import Service


@pytest.mark.parametrize("balancer", ["lb1", "lb2"])
@pytest.mark.parametrize("pool", ["small", "large"])
def test_the_openai_client_streams_from_each_pool_through_each_balancer(
    service: Service, balancer: str, pool: str
) -> None:
    client = openai.OpenAI(base_url=f"{service.urls[balancer]}/v1", api_key=service.key, max_retries=0, timeout=60)
    events = list(
        client.chat.completions.create(
            model=pool,
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=16,
            stream=True,
            extra_body={"ignore_eos": True},
        )
    )
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text, "the stream carried no text"
    finish = [e.choices[0].finish_reason for e in events if e.choices and e.choices[0].finish_reason]
    assert finish == ["length"], f"the stream did not end as asked: {finish}"
    usage = [e.usage for e in events if e.usage]
    assert usage, "no usage on the stream: token budgets need it"
    assert usage[-1].completion_tokens == 16


@pytest.mark.parametrize("balancer", ["lb1", "lb2"])
def test_models_lists_what_the_key_may_use(service: Service, balancer: str) -> None:
    client = openai.OpenAI(base_url=f"{service.urls[balancer]}/v1", api_key=service.key, max_retries=0, timeout=10)
    assert {model.id for model in client.models.list()} == {"small", "chat", "large"}


BODY = '{"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        ("/v1/nothing", "right", BODY, 404),
        ("/tokenize", "right", BODY, 404),
        ("/metrics", "right", BODY, 404),
        ("/v1/chat/completions", "wrong", BODY, 401),
        ("/v1/chat/completions", None, BODY, 401),
        ("/v1/chat/completions", "right", '{"model": "small", "messages": [', 400),
        ("/v1/chat/completions", "right", '{"messages": []}', 400),
        ("/v1/chat/completions", "right", BODY.replace("small", "nobody"), 404),
    ],
    ids=["path", "engine-route", "metrics", "wrong-key", "no-key", "broken-json", "no-model", "unknown-model"],
)
@pytest.mark.parametrize("balancer", ["lb1", "lb2"])
def test_a_refusal_is_json_in_the_form_openai_clients_read(
    service: Service, balancer: str, path: str, key: str | None, body: str, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {service.key if key == 'right' else 'sk-wrong'}"
    answer = httpx.post(f"{service.urls[balancer]}{path}", content=body, headers=headers, timeout=10)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"]
    assert "code" in error
    assert answer.headers["x-request-id"]


def test_an_engine_refuses_whoever_has_no_key_and_whoever_is_no_balancer(service: Service) -> None:
    """The firewall closes the engine's port to this machine: vLLM answers several routes without a key."""
    with pytest.raises(httpx.ConnectTimeout):
        httpx.get("http://198.18.0.21:8001/health", timeout=2)
