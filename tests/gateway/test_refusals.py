"""Every answer that the balancer makes itself: exact status, headers and JSON, and no engine is troubled."""

import http.client
import json
import socket
from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, eventually
from gateway.plan import KEYS
from gateway.stub import Stub

PATHS = "/v1/chat/completions, /v1/completions, /v1/responses, /v1/models"
MODELS = "duo chat hashed many narrow unqueued wide"


def refusal(message: str, code: str, param: str | None = None, type: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/health", "/v1/load_lora_adapter", "/v1/chat/completions/", "/V1/models"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_not_listed_is_404(client: httpx.Client, stub: Stub, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert answer.json() == refusal(f"There is no {method} {path} here. Use one of: {PATHS}.", "unknown_path")
    assert not stub.seen()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_generation_takes_post_only(client: httpx.Client, method: str) -> None:
    answer = client.request(method, CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == refusal(f"This path takes POST, not {method}.", "method_not_allowed")


def test_the_list_of_models_takes_get_only(client: httpx.Client) -> None:
    answer = client.post("/v1/models", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json() == refusal("This path takes GET, not POST.", "method_not_allowed")


@pytest.mark.parametrize("authorization", [None, "Basic c2stYTpi", "sk-gateway-demo-0001"])
def test_no_bearer_key_is_401(balancer: Balancer, stub: Stub, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization else {}
    answer = httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json() == refusal("No API key. Send it as: Authorization: Bearer KEY.", "missing_api_key")
    assert not stub.seen()


@pytest.mark.parametrize("key", ["wrong", KEYS["demo"].upper(), KEYS["demo"] + "x", "demo/demo-1", "x" * 8000])
def test_an_unknown_key_is_401(balancer: Balancer, stub: Stub, key: str) -> None:
    answer = httpx.post(f"{balancer.url}{CHAT}", json=chat(), headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json() == refusal("Unknown API key. Ask the operator of this service for one.", "invalid_api_key")
    assert not stub.seen()


BROKEN = [
    "",
    "garbage",
    "{",
    "[",
    '{"model": ',
    '{"model": "duo"',
    '{"model": "duo", "messages": [',
    '{"model": "duo"} x',
    "\x00",
]


@pytest.mark.parametrize("body", BROKEN)
def test_broken_json_is_400(client: httpx.Client, stub: Stub, body: str) -> None:
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == refusal("The body is not valid JSON. Send one JSON object.", "invalid_json")
    assert not stub.seen()


@pytest.mark.parametrize("body", ["{}", '{"messages": []}', '{"model": null}', '{"a": {"model": "duo"}}\n'])
def test_a_body_without_model_is_400_and_says_which_there_are(client: httpx.Client, stub: Stub, body: str) -> None:
    answer = client.post(CHAT, content=body)
    assert answer.status_code == 400
    assert answer.json() == refusal(f"The body has no model. Set it to one of: {MODELS}.", "missing_model", "model")
    assert not stub.seen()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  ", "\t\n\n"])
def test_white_space_after_a_body_is_allowed(client: httpx.Client, ending: str) -> None:
    assert client.post(CHAT, content=json.dumps(chat()) + ending).status_code == 200


@pytest.mark.parametrize("model", ["gpt-9", "Duo", "duo/duo", "narrow ", 'quote"back\\slash', "ünïcode", "", 5])
def test_an_unknown_model_is_404_and_says_which_there_are(client: httpx.Client, stub: Stub, model: Any) -> None:
    answer = client.post(CHAT, json=chat(model))
    assert answer.status_code == 404
    message = f"The model {model} does not exist or this key may not use it. Use one of: {MODELS}."
    assert answer.json() == refusal(message, "model_not_found", "model")
    assert not stub.seen()


def test_a_model_of_another_tenant_looks_like_an_unknown_one(balancer: Balancer, stub: Stub) -> None:
    answer = httpx.post(
        f"{balancer.url}{CHAT}", json=chat("wide"), headers={"authorization": f"Bearer {KEYS['narrow']}"}
    )
    assert answer.status_code == 404
    message = "The model wide does not exist or this key may not use it. Use one of: duo chat."
    assert answer.json() == refusal(message, "model_not_found", "model")
    assert not stub.seen()


def test_the_largest_body_passes_and_one_byte_more_is_413(client: httpx.Client, stub: Stub) -> None:
    room = 262144 - len(json.dumps(chat(content="")))
    largest = json.dumps(chat(content="x" * room))
    assert len(largest) == 262144
    assert client.post(CHAT, content=largest).status_code == 200
    answer = client.post(CHAT, content=largest + " ")
    assert answer.status_code == 413
    message = "The request has 262145 bytes; at most 262144 are allowed. Shorten the prompt."
    assert answer.json() == refusal(message, "request_too_large")
    assert len(stub.seen()) == 1


def test_a_chunked_body_that_is_too_large_is_413(balancer: Balancer, stub: Stub) -> None:
    connection = http.client.HTTPConnection(*balancer.api, timeout=10)
    headers = {"Authorization": f"Bearer {KEYS['demo']}", "Transfer-Encoding": "chunked"}
    pieces = [b'{"model": "duo", "a": "', *[b"x" * 8192] * 33, b'"}']
    connection.request("POST", CHAT, body=iter(pieces), headers=headers, encode_chunked=True)
    answer = connection.getresponse()
    message = "The request has more than 262144 bytes. Shorten the prompt."
    assert (answer.status, json.loads(answer.read())) == (413, refusal(message, "request_too_large"))
    connection.close()
    assert not stub.seen()


def test_a_chunked_body_within_the_limit_passes(balancer: Balancer, stub: Stub) -> None:
    text = json.dumps(chat()).encode()
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    answer = httpx.post(f"{balancer.url}{CHAT}", content=iter([text[:20], text[20:]]), headers=headers)
    assert answer.status_code == 200


def raw(balancer: Balancer, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends bytes as they are and reads one answer."""
    with socket.create_connection(balancer.api, timeout=8) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_a_body_that_never_ends_is_408(balancer: Balancer, stub: Stub) -> None:
    key = KEYS["demo"].encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\nAuthorization: Bearer " + key
    status, headers, body = raw(balancer, head + b"\r\n\r\n", b'{"model": "duo"')
    assert (status, headers["content-type"]) == (408, "application/json")
    message = "The request did not arrive in time. Send headers within 2 s and the body within 2 s."
    assert json.loads(body) == refusal(message, "request_timeout")
    assert headers["x-request-id"]
    assert not stub.seen()


NOT_HTTP = {
    "no HTTP at all": (400, b"\x16\x03\x01 what is this\r\n\r\n"),
    "bad header": (400, b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n"),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
    "negative length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    "headers without end": (408, b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"),
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_never_becomes_a_request_is_refused_closed_and_logged(balancer: Balancer, stub: Stub, name: str) -> None:
    """HAProxy's parser answers these before any rule runs, with a fixed text: the one answer that is not JSON."""
    expected, sent = NOT_HTTP[name]
    before = len(balancer.log_lines())
    status, headers, _ = raw(balancer, sent)
    assert (status, headers["connection"]) == (expected, "close")
    entry = eventually(
        lambda: [json.loads(line) for line in balancer.log_lines()[before:] if "bad_connection" in line],
        "a log line for the refused connection",
    )[0]
    assert entry["status"] == expected
    assert not stub.seen()


def test_the_health_path_needs_no_key(balancer: Balancer) -> None:
    answer = httpx.get(f"{balancer.url}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/", "/v1/models", "/admin"])
def test_the_private_port_answers_nothing_else(balancer: Balancer, path: str) -> None:
    answer = httpx.get(f"{balancer.private_url}{path}")
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_path"


def test_the_private_port_serves_metrics_and_statistics(balancer: Balancer) -> None:
    metrics = httpx.get(f"{balancer.private_url}/metrics").text
    assert 'haproxy_server_check_status{proxy="engines",server="duo-1",state="L7OK"} 1' in metrics
    page = httpx.get(f"{balancer.private_url}/stats")
    assert (page.status_code, "pool-duo-stable" in page.text) == (200, True)
