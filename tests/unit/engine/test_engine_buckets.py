"""Thresholds of SLOs and the edges of the engines' histograms: which are set, and how a page proves them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from rackserve.definition.engine_buckets import FAMILIES, custom, settable, thresholds
from rackserve.definition.models.observe import Slo

from .conftest import load

buckets = load("plugins/modules/rackserve_buckets.py", "rackserve_buckets")


def slo(indicator: str, threshold: float | None, pool: str = "p", **more: Any) -> Slo:
    given = {
        "name": "s",
        "pool": pool,
        "indicator": indicator,
        "threshold_seconds": threshold,
        "objective_percent": 99.0,
    }
    return Slo.model_validate(given | more)


def test_only_a_family_with_a_threshold_beside_its_edges_is_set_and_keeps_its_own_edges() -> None:
    given = [slo("ttft", 2.5), slo("queue_wait", 0.2), slo("response_time", 12.0), slo("ttft", 2.0, pool="other")]
    found = custom(given, "p")
    assert list(found) == ["request_latency"]
    assert set(found["request_latency"]) == {*map(float, FAMILIES["queue_wait"].edges), 0.2, 12.0}
    assert found["request_latency"] == sorted(found["request_latency"])
    assert custom([slo("availability", None)], "p") == {}


def test_what_a_page_has_to_prove_is_every_threshold_of_the_pool() -> None:
    given = [slo("ttft", 2.5), slo("ttft", 0.7), slo("queue_wait", 0.2), slo("availability", None)]
    assert thresholds(given, "p") == {
        "vllm:request_queue_time_seconds": [0.2],
        "vllm:time_to_first_token_seconds": [0.7, 2.5],
    }
    assert thresholds(given, "other") == {}


@pytest.mark.parametrize(
    ("version", "can"), [("0.30.0", False), ("0.9.2", False), ("0.31.0", False), ("0.32.0.post1", True), ("1.0", True)]
)
def test_which_versions_take_other_edges(version: str, can: bool) -> None:
    assert settable(version) is can


def page(*edges: float) -> str:
    registry = CollectorRegistry()
    histogram = Histogram(
        "vllm:time_to_first_token_seconds", "t", ("engine", "a_model"), buckets=edges, registry=registry
    )
    histogram.labels("0", 'odd "}name').observe(1)
    text: str = generate_latest(registry).decode()
    return text


def test_an_edge_is_found_whatever_it_is_written_like() -> None:
    wanted = {"vllm:time_to_first_token_seconds": [2, 0.25]}
    assert buckets.problems("e", wanted, page(0.25, 2.0)) == []


def test_a_threshold_beside_the_edges_is_named_with_the_edges_that_are_there() -> None:
    wanted = {"vllm:time_to_first_token_seconds": [2.0], "vllm:request_queue_time_seconds": [1.0]}
    assert buckets.problems("e", wanted, page(1.0, 2.5)) == [
        "e: vllm:time_to_first_token_seconds has no edge at 2 s; it has: 1, 2.5, inf",
        "e: vllm:request_queue_time_seconds has no edge at 1 s; it has: no such histogram",
    ]


@contextmanager
def engine(text: str) -> Iterator[int]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_engine_of_the_node_is_asked_and_one_that_does_not_answer_is_a_problem() -> None:
    edges = {"vllm:time_to_first_token_seconds": [2.0, 0.25]}
    with engine(page(0.25, 2.0)) as port:
        engines = [{"name": "e-1", "port": port, "slo_edges": edges}, {"name": "e-2", "port": 1, "slo_edges": {}}]
        assert buckets.look(engines, 5) == (2, [])
    _, told = buckets.look(engines, 5)
    assert told[0].startswith(f"e-1: its page of metrics at port {port} cannot be read")
    assert len(told) == 1
