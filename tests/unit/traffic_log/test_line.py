"""Lines: what is one, and that nothing else raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.traffic_log.line import BadConnection, Event, Notice, Request, parse
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


@pytest.mark.parametrize(
    "text",
    [
        b"Proxy api stopped (cumulated conns: FE: 3, BE: 0).",
        b"Proxy api started.",
        b"Proxy api reached process FD limit (maxsock=200). Please check 'ulimit-n' and restart.",
        b"Paused frontend api.",
        b"Resumed frontend api.",
        b"Port 8080 busy while trying to enable frontend api.",
    ],
)
def test_what_haproxy_says_about_the_frontend_is_no_garbage(text: bytes) -> None:
    assert parse(text) == Notice(text=text.decode())


@pytest.mark.parametrize(
    "text", [b"Proxy ", b"Proxy \xff", b"Proxy api\nstopped", b"Proxy " + b"x" * 1001, b"proxy api"]
)
def test_what_only_begins_like_it_is(text: bytes) -> None:
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
