"""Lines: what is one, and that nothing else raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.traffic_log.line import BadConnection, Event, Request, parse
from unit.traffic_log.making import FIELDS, line


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_none(text: bytes) -> None:
    parse(text)


@given(
    st.sampled_from(sorted(FIELDS)), st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.lists(st.text()))
)
def test_any_value_in_a_field_is_a_record_or_none(name: str, value: object) -> None:
    record = parse(json.dumps(FIELDS | {name: value}).encode())
    assert record is None or isinstance(record, Request)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x" * 1000000,
        line(path="x" * 1000000),
        line()[:-20],
        line(time=float("nan")),
        line(status="200"),
        line(tokens=1.5),
        line(stream=1),
        line(number="7"),
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 50000,
        line(tokens=10**30),
    ],
)
def test_garbage_is_none(text: bytes) -> None:
    assert parse(text) is None


def test_unknown_fields_are_passed_over() -> None:
    assert isinstance(parse(line(something_new=[1, {"a": None}])), Request)


def test_other_lines_of_the_balancer_are_known() -> None:
    bad = {
        "time": 1.5,
        "balancer": "lb1",
        "client": "192.0.2.1",
        "status": 0,
        "refused": "bad_connection",
        "detail": "x",
    }
    assert isinstance(parse(json.dumps(bad).encode()), BadConnection)
    assert isinstance(parse(b'{"event":"breaker_open","pool":"small"}'), Event)
