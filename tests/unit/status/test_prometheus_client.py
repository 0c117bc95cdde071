"""A monitor's Prometheus over a host: the program that runs there against a server that speaks its API."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rackserve.fleet.errors import FleetError, NonsenseError, RefusedError, UnreachableError
from rackserve.fleet.prometheus import Answer, NoMonitor, Question, Range, ask, ask_any
from rackserve.fleet.ssh import CommandHost
from unit.status.playing import PlayedHost, alert, monitor, sample

HERE = (sys.executable, "-")


class Server(ThreadingHTTPServer):
    """Answers as Prometheus 2.53 does; `hang` keeps everybody waiting until it is set."""

    hang: threading.Event | None = None
    said: bytes | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, list[str]]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        given = parse_qs(parts.query)
        self.server.seen.append((parts.path, given))
        if self.server.hang is not None:
            self.server.hang.wait(10)
        code, body = self._reply(parts.path, given)
        text = self.server.said or json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _reply(self, path: str, given: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if path == "/api/v1/alerts":
            return 200, {"status": "success", "data": {"alerts": [alert("page", "SloBurn")]}}
        if given["query"] == ["up ="]:
            return 400, {"status": "error", "errorType": "bad_data", "error": "1:4: parse error: unexpected end"}
        if path == "/api/v1/query_range":
            result: list[dict[str, Any]] = [{"metric": {"pool": "small"}, "values": [[1.0, "2"], [2.0, "3"]]}]
            return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return 200, {"status": "success", "data": {"resultType": "vector", "result": [sample("NaN", job="vllm")]}}

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        if made.hang is not None:
            made.hang.set()
        made.shutdown()
        thread.join(timeout=5)


def asked(server: Server, question: Question, seconds: float = 5) -> Answer:
    return ask(CommandHost("m1", "192.0.2.1", HERE), server.server_port, question, seconds)


def test_many_queries_and_the_alerts_come_in_one_call(server: Server) -> None:
    question = Question({"a": "up", "b": 'x{pool="small"}'}, {"r": Range("up", 1, 2, 1)}, alerts=True)
    answer = asked(server, question)
    assert {name for name in ("a", "b") if answer.of(name)[0].metric == {"job": "vllm"}} == {"a", "b"}
    assert answer.of("a")[0].number is None, "NaN is no number"
    assert answer.series["r"][0].values == ((1, 2), (2, 3))
    assert [one.labels["alertname"] for one in answer.alerts] == ["SloBurn"]
    assert abs(answer.now - time.time()) < 60
    assert [given for path, given in server.seen if path == "/api/v1/query"][1] == {"query": ['x{pool="small"}']}


def test_a_query_that_is_refused_costs_only_itself(server: Server) -> None:
    answer = asked(server, Question({"bad": "up =", "good": "up"}))
    assert answer.refused == {"bad": "1:4: parse error: unexpected end"}
    assert (answer.of("bad"), len(answer.of("good"))) == ((), 1)


def test_nobody_at_the_port_is_refused_with_the_address() -> None:
    with Server() as gone:
        port = gone.server_port
    with pytest.raises(RefusedError, match=rf"192\.0\.2\.1: refused: prometheus; .*127\.0\.0\.1:{port}: .*refused"):
        ask(CommandHost("m1", "192.0.2.1", HERE), port, Question({"a": "up"}), 5)


def test_a_prometheus_that_hangs_is_given_up_before_the_deadline(server: Server) -> None:
    server.hang = threading.Event()
    began = time.monotonic()
    with pytest.raises(FleetError, match="timed out"):
        asked(server, Question({"a": "up", "b": "up", "c": "up"}), seconds=2)
    assert time.monotonic() - began < 2


def test_something_else_at_the_port_is_told_as_what_it_said(server: Server) -> None:
    server.said = b"<html>hello</html>"
    assert "hello" in asked(server, Question({"a": "up"})).refused["a"]


def test_an_answer_of_another_form_is_nonsense() -> None:
    odd = PlayedHost("m1", {"prometheus": {"now": 1, "results": {"a": [{"value": "x"}]}, "refused": {}, "alerts": []}})
    with pytest.raises(NonsenseError, match="m1: answered something unexpected: prometheus"):
        ask(odd, 9090, Question({"a": "up"}), 5)


def test_the_first_monitor_that_answers_is_taken_and_none_is_a_result() -> None:
    down = PlayedHost("m1", {"prometheus": UnreachableError("192.0.2.1", "prometheus", "no route")})
    found = ask_any([down, monitor("m2"), monitor("m3")], 9090, Question({}), 5)
    assert isinstance(found, Answer)
    assert found.monitor == "m2"
    nobody = ask_any([down], 9090, Question({}), 5)
    assert isinstance(nobody, NoMonitor)
    assert "no route" in str(nobody)
    assert "no host in monitors" in str(ask_any([], 9090, Question({}), 5))
