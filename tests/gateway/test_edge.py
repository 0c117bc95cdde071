"""The door: lengths, smuggling, connections of one address, headers of every answer, and no way to the admin socket."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from gateway.asking import CHAT, chat, error_of
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, UNIT, plan
from gateway.stub import Stub

BEARER = f"authorization: Bearer {KEYS['demo']}\r\n".encode()
BODY = json.dumps(chat()).encode()


def exchange(balancer: Balancer, sent: bytes, seconds: float = 8) -> bytes:
    """Everything that comes back until the balancer closes or is silent."""
    with socket.create_connection(balancer.api, timeout=seconds) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_a_long_address_is_414_and_long_headers_are_431(client: httpx.Client, stub: Stub) -> None:
    long = client.get("/v1/models?" + "x" * 20000)
    assert (long.status_code, error_of(long)["code"]) == (414, "url_too_long")
    many = client.get("/v1/models", headers={f"x-filler-{number}": "y" * 500 for number in range(40)})
    assert (many.status_code, error_of(many)["code"]) == (431, "headers_too_large")
    assert client.get("/v1/models", headers={"x-filler": "y" * 8000}).status_code == 200
    assert not stub.seen()


@pytest.mark.parametrize("path", ["/v1/models", "/nowhere", "/healthz", CHAT])
def test_every_answer_is_private_and_says_no_version(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=chat()) if path == CHAT else client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers, "without TLS it would lock clients out"
    assert "x-rackserve-refused" not in answer.headers, "how a reason comes into the log is nobody else's business"
    shown = f"{answer.headers} {answer.text}".lower()
    assert not [word for word in ("haproxy", "server", "vllm", "uvicorn") if f"'{word}'" in shown]


SMUGGLED = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
LENGTHS = {
    "chunked wins over a length": b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % (len(SMUGGLED) + 5),
    "a length before chunked": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_length_and_chunks_at_once_never_leave_a_second_request(balancer: Balancer, stub: Stub, name: str) -> None:
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: a\r\n" + BEARER + LENGTHS[name]
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    received = exchange(balancer, head + b"\r\n" + chunked + SMUGGLED)
    assert statuses(received)[0] in (200, 400)
    # What follows is a request of its own without a key, or nothing at all: never part of the first, never at an engine.
    assert statuses(received)[1:] in ([], [400], [401])
    assert [seen.path for seen in stub.seen()] in ([], [CHAT])


BAD = {
    "a chunk size that is none": (b"transfer-encoding: chunked\r\n", b"zz\r\nhello\r\n0\r\n\r\n"),
    "a negative chunk": (b"transfer-encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": (b"transfer-encoding: chunked\r\n", b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": (b"transfer-encoding: chunked\r\n", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "an encoding that nobody knows": (b"transfer-encoding: xchunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "chunked twice": (b"transfer-encoding: chunked, chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "two lengths": (b"content-length: 5\r\ncontent-length: 6\r\n", b"helloX"),
    "a length that is none": (b"content-length: 5x\r\n", b"hello"),
    "a length with a sign": (b"content-length: +5\r\n", b"hello"),
    "a space before the colon": (b"content-length : 5\r\n", b"hello"),
    "a zero byte in a header": (b"x-a: b\x00c\r\ncontent-length: 5\r\n", b"hello"),
    "a header without a name": (b": nothing\r\ncontent-length: 5\r\n", b"hello"),
}


@pytest.mark.parametrize("name", BAD)
def test_framing_that_two_parsers_could_read_differently_is_refused(balancer: Balancer, stub: Stub, name: str) -> None:
    headers, body = BAD[name]
    sent = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: a\r\n" + BEARER + headers + b"\r\n" + body
    found = statuses(exchange(balancer, sent))
    assert found[:1] in ([400], [422], [501]) or found == [], f"{name}: {found}"
    assert not stub.seen()


def test_slow_headers_and_slow_bodies_are_ended(balancer: Balancer, stub: Stub) -> None:
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: a\r\n"
    whole = head + BEARER + b"content-length: 999\r\n\r\n{"
    for sent in (head, whole):
        with socket.create_connection(balancer.api, timeout=15) as connection:
            # A byte now and then must not extend the time.
            connection.sendall(sent)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 408
    assert not stub.seen()


def test_the_admin_socket_is_on_no_port(balancer: Balancer) -> None:
    listing = balancer.node.run("ss --no-header --listening --tcp --udp --numeric --processes")
    main = balancer.node.run(f"systemctl show {UNIT} --property=MainPID --value").strip()
    family = [*balancer.node.run(f"pgrep --parent {main} || true").split(), main]
    ports = {
        int(line.split()[4].rsplit(":", 1)[1])
        for line in listing.splitlines()
        if any(f"pid={process}," in line for process in family)
    }
    service_ports = {balancer.api[1], int(balancer.private_url.rsplit(":", 1)[1])}
    assert service_ports <= ports
    for port in ports:
        with socket.create_connection((balancer.api[0], port), timeout=5) as connection:
            connection.sendall(b"show info\n\n")
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while piece := connection.recv(65536):
                received += piece
        assert b"Name: HAProxy" not in received, f"port {port}"


@pytest.fixture
def bounded(balancer: Balancer, stub_address: str) -> Iterator[Balancer]:
    service = plan(stub_address, FIRST_PORT)
    service["edge"] = service["edge"] | {"connections_per_address": 5}
    balancer.reload(candidate(service))
    yield balancer
    balancer.reload(candidate(plan(stub_address, FIRST_PORT)))


def test_one_address_may_have_so_many_connections_and_is_told(bounded: Balancer) -> None:
    request = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n" + BEARER + b"\r\n"

    def ask(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = json.loads(answer.read())
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def connect() -> socket.socket:
        return socket.create_connection(bounded.api, timeout=8)

    with ExitStack() as stack:
        eventually(lambda: connections(bounded) == 0, "no connection left over")
        five = [stack.enter_context(connect()) for _ in range(5)]
        assert [ask(one)[0] for one in five] == [200] * 5
        sixth = stack.enter_context(connect())
        status, headers, body = ask(sixth)
        assert (status, headers["connection"], body["error"]["code"]) == (429, "close", "too_many_connections")
        assert headers["retry-after"]
        assert sixth.recv(1) == b"", "closed"
        five[0].close()

        def one_more() -> bool:
            with connect() as connection:
                return ask(connection)[0] == 200

        eventually(one_more, "a place is free again")
        # Beyond twice the limit a connection is cut off before a byte is read.
        for _ in range(12):
            with suppress(ConnectionResetError):
                stack.enter_context(connect())
        assert cut_off(stack, connect)


def cut_off(stack: ExitStack, connect: Callable[[], socket.socket]) -> bool:
    try:
        return not alive(stack.enter_context(connect()))
    except ConnectionResetError:
        return True


def connections(balancer: Balancer) -> int:
    table = balancer.runtime("show table addresses")
    return sum(int(word.partition("=")[2]) for word in table.split() if word.startswith("conn_cur="))


def alive(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False
