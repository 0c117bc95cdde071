"""Thresholds are edges, labels are what the exporter prints, and classes of replies count each length once."""

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from rackserve.definition.models.observe import ReplyLength
from rackserve.definition.read import Definition
from rackserve.slo import edges, le, reply_classes
from rackserve.slo.buckets import classes_of
from rackserve.traffic_log.buckets import reply_class
from rackserve.traffic_log.settings import Settings

Make = Callable[..., Definition]


def edges_of(definition: Definition) -> dict[str, tuple[float, ...]]:
    return edges(definition.service.slos)


@given(st.lists(st.floats(min_value=1e-7, max_value=604_800), min_size=1, max_size=8, unique=True))
def test_the_label_of_an_edge_is_the_one_on_the_exporters_page(values: list[float]) -> None:
    registry = CollectorRegistry()
    Histogram("h", "h", buckets=sorted(values), registry=registry)
    page = re.findall(r'h_bucket\{le="([^"]+)"\}', generate_latest(registry).decode())
    assert page == [*(le(value) for value in sorted(values)), "+Inf"]


@pytest.mark.parametrize(
    ("edge", "label"), [(0.5, "0.5"), (1, "1.0"), (2.5, "2.5"), (0.00001, "1e-05"), (900, "900.0")]
)
def test_labels_of_edges(edge: float, label: str) -> None:
    assert le(edge) == label


def test_every_threshold_is_an_edge_of_its_own_indicator_only(define: Make) -> None:
    found = edges_of(define({"name": "a", "indicator": "ttft", "threshold_seconds": 1.7}))
    assert 1.7 in found["ttft"]
    assert all(1.7 not in ladder for indicator, ladder in found.items() if indicator != "ttft")
    assert all(list(ladder) == sorted(set(ladder)) for ladder in found.values())
    assert found.keys() == {"ttft", "inter_token", "queue_wait", "response_time"}


def test_a_threshold_that_the_ladder_has_already_makes_no_second_edge(define: Make) -> None:
    assert edges_of(define({"indicator": "ttft", "threshold_seconds": 1.0})) == edges_of(define())


def test_without_a_declared_length_there_is_one_class(define: Make) -> None:
    assert reply_classes(define({})) == {"any": (0, None)}


def timed(name: str, first: int, last: int | None) -> dict[str, object]:
    length = {"from_tokens": first, "to_tokens": last}
    return {"name": name, "indicator": "response_time", "threshold_seconds": 5.0, "reply_length": length}


def test_overlapping_lengths_are_cut_into_classes_that_do_not_overlap(define: Make) -> None:
    definition = define(timed("short", 0, 100), timed("middle", 50, 200))
    assert reply_classes(definition) == {
        "0-49": (0, 49),
        "50-100": (50, 100),
        "101-200": (101, 200),
        "201-": (201, None),
    }
    assert classes_of(ReplyLength(from_tokens=0, to_tokens=100), definition) == ("0-49", "50-100")
    assert classes_of(ReplyLength(from_tokens=50, to_tokens=200), definition) == ("50-100", "101-200")


LENGTHS = st.tuples(st.integers(0, 500), st.one_of(st.none(), st.integers(0, 500))).map(
    lambda pair: (pair[0], None if pair[1] is None else max(1, pair[0] + pair[1]))
)


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=4), tokens=st.integers(0, 1200))
def test_each_reply_is_in_one_class_and_an_slo_reads_exactly_its_own_lengths(
    define: Make, lengths: list[tuple[int, int | None]], tokens: int
) -> None:
    definition = define(*(timed(f"s{number}", *length) for number, length in enumerate(lengths)))
    inside = [
        label
        for label, (first, last) in reply_classes(definition).items()
        if first <= tokens and (last is None or tokens <= last)
    ]
    assert len(inside) == 1
    for first, last in lengths:
        wanted = first <= tokens and (last is None or tokens <= last)
        assert (inside[0] in classes_of(ReplyLength(from_tokens=first, to_tokens=last), definition)) == wanted


def test_the_service_that_counts_takes_edges_and_classes_as_they_are(define: Make) -> None:
    length = {"from_tokens": 50, "to_tokens": 100}
    slo = {"name": "a", "indicator": "response_time", "threshold_seconds": 7.5, "reply_length": length}
    definition = define(slo)
    values = {
        "node": "lb1",
        "listen": {"port": 0},
        "directory": "/var/log/rackserve",
        "pools": {},
        "lanes": [],
        "tenants": [],
        "edges": edges_of(definition),
        "reply_classes": reply_classes(definition),
        "retention": {"total_bytes": 1_000_000, "classes": {"default": {"days": 14}}},
    }
    taken = Settings.model_validate_json(json.dumps(values))
    assert taken.edges["response_time"] == edges_of(definition)["response_time"]
    assert [reply_class(taken.reply_classes, tokens) for tokens in (49, 50, 100, 101)] == [
        "0-49",
        "50-100",
        "50-100",
        "101-",
    ]
