"""Lines of balancers and engines as one timeline: streams, refusals, cancels, retries."""

import re
from typing import Any

import pytest
from rackserve.fleet.request_lines import JournalLine
from rackserve.traffic_log.history.stages import began, stages
from rackserve.traffic_log.history.timeline import (
    REQUEST_ID,
    Entry,
    Places,
    in_order,
    mentions,
    of_journal,
    of_request,
    requests_of,
    shown,
)
from unit.traffic_log.making import line, request

PLACES = Places({"small-gpu1": "gpu1"}, {"small": 2000})
# Came in 100 ms after the end of what was on the connection before: 20 ms to read, 300 ms in the waiting room, 50 ms in
# the queue, 1 ms to connect, first token 500 ms and last token 1500 ms after the whole request, 1525 ms in all.
STREAM: dict[str, Any] = {
    "time": 1000.0, "idle_ms": 100, "read_ms": 320, "room_ms": 300, "queue_ms": 50, "connect_ms": 1, "headers_ms": 140,
    "data_ms": 1014, "first_token_ms": 500, "last_token_ms": 1500, "total_ms": 1525, "queued_pool": 3,
}  # fmt: skip
NOBODY = {"server": "<NOSRV>", "connect_ms": -1, "headers_ms": -1, "data_ms": -1, "tokens": 0, "prompt_tokens": 0}


def told(**changes: Any) -> list[tuple[float, str]]:
    """Milliseconds after the request came in, and what."""
    record = request(**{**STREAM, **changes})
    entries = of_request(record, PLACES)
    return [(round((entry.at - began(record)) * 1000), entry.what) for entry in entries]


def last(**changes: Any) -> Entry:
    return of_request(request(**{**STREAM, **changes}), PLACES)[-1]


def test_a_stream_is_told_stage_by_stage() -> None:
    assert told() == [
        (0, "request comes in"),
        (20, "whole request read"),
        (320, "left the waiting room"),
        (370, "left the queue"),
        (371, "engine has it"),
        (520, "first token"),
        (1520, "last token"),
        (1525, "answered"),
    ]
    assert began(request(**STREAM)) == 1000.1


def test_details_name_engine_node_queue_tokens_and_never_more_than_the_log_has() -> None:
    entries = {entry.what: entry for entry in of_request(request(**STREAM), PLACES)}
    assert entries["engine has it"].detail == "after 1 ms, small-gpu1 on gpu1, track stable"
    assert entries["left the queue"].detail == "after 50 ms, pool small, 3 before it"
    assert "by demo/1, lane interactive" in entries["request comes in"].detail
    assert "11 tokens for 20" in entries["answered"].detail
    assert {entry.node for entry in entries.values()} == {"lb1"}


def test_who_waits_nowhere_has_no_entries_for_it() -> None:
    waits = {what for _, what in told(room_ms=0, read_ms=20, queue_ms=0)}
    assert not waits & {"left the waiting room", "left the queue"}


def test_a_plain_answer_begins_when_it_is_complete() -> None:
    assert told(stream=False, first_token_ms=-1, last_token_ms=-1)[-2:] == [(511, "answer begins"), (1525, "answered")]


@pytest.mark.parametrize(
    ("changes", "what", "detail"),
    [
        ({"status": 429, "refused": "rate_limit_exceeded", "ending": "PR", **NOBODY}, "refused: rate_limit_exceeded", "no engine"),
        ({"status": 503, "ending": "sQ", **NOBODY}, "refused: queue_timeout", "no engine saw it"),
        ({"ending": "CD"}, "the client left in the middle of the answer", "HAProxy's word for it: CD"),
        ({"ending": "CH", "first_token_ms": -1, "headers_ms": -1}, "the client left before the first token", "CH"),
        ({"ending": "SD"}, "the engine broke off", "SD"),
        ({"stream_error": True}, "the engine failed", "status 200"),
        ({"status": 503, "ending": "SC", **NOBODY}, "no engine took it", "SC"),
        ({"ending": "cD", "last_token_ms": 600, "total_ms": 3000}, "too slow: ended by a time limit", "cD"),
    ],
)  # fmt: skip
def test_every_way_to_end_has_its_words(changes: dict[str, Any], what: str, detail: str) -> None:
    entry = last(**changes)
    assert entry.what == what
    assert detail in entry.detail


def test_retries_are_told_where_the_engine_has_it() -> None:
    entries = of_request(request(**{**STREAM, "retries": "+2"}), PLACES)
    detail = next(entry.detail for entry in entries if entry.what == "engine has it")
    assert detail.endswith("after 2 failed connects, on another engine at last")


def test_a_request_that_was_never_whole_has_a_beginning_and_an_end() -> None:
    assert [
        what for _, what in told(read_ms=-1, queue_ms=-1, ending="CR", status=400, first_token_ms=-1, **NOBODY)
    ] == [
        "request comes in",
        "the client left before the first token",
    ]


@pytest.mark.parametrize("ahead_ms", [0, 1, 5])
def test_no_token_comes_after_the_end_though_its_clock_is_ahead(ahead_ms: int) -> None:
    record = request(**{**STREAM, "time": 1795951680.819, "last_token_ms": 1505 + ahead_ms})
    entries = of_request(record, PLACES)
    assert [entry.what for entry in in_order(entries)] == [entry.what for entry in entries]
    assert entries[-2].what == "last token"
    assert entries[-2].at == entries[-1].at


@pytest.mark.parametrize(
    "changes",
    [{}, {"last_token_ms": 1506}, {"stream": False}, {"read_ms": -1}, {"first_token_ms": -1}, {"room_ms": 999}],
)
def test_stages_add_up_to_the_whole_time(changes: dict[str, Any]) -> None:
    record = request(**{**STREAM, **changes})
    assert sum(stage.milliseconds for stage in stages(record)) == max(record.total_ms, record.read_ms)


def test_only_lines_of_exactly_this_id_and_each_once() -> None:
    own, other = line(request_id="abcdefgh", time=2.5), line(request_id="abcdefgh2")
    earlier = line(request_id="abcdefgh", time=1.5)
    found = requests_of("abcdefgh", [own, own, other, b"garbage", earlier])
    assert [one.time for one in found] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("abcdefgh", True),
        ("Received request chatcmpl-abcdefgh: params", True),
        ("Aborted request cmpl-abcdefgh-0.", True),
        ("abcdefghi", False),
        ("1abcdefgh", False),
        ("abcdefgh-b", False),
        ("abcdefgh.5", False),
        ("finished abcdefgh.", True),
    ],
)
def test_an_id_is_found_as_engines_write_it_and_no_longer_one(text: str, is_it: bool) -> None:
    assert (re.search(mentions("abcdefgh"), text) is not None) is is_it


@pytest.mark.parametrize("text", ["short", "a" * 129, "abcdefgh;rm", "abc defgh", "abcdefgh\n", ""])
def test_what_is_no_request_id_is_refused(text: str) -> None:
    assert REQUEST_ID.fullmatch(text) is None


def test_events_become_words_and_request_lines_of_the_journal_are_not_told_twice() -> None:
    lines = [
        JournalLine(at=1.0, unit="haproxy.service", text='{"event":"breaker_open","pool":"small","engine":"e1","reason":"5xx"}'),
        JournalLine(at=2.0, unit="haproxy.service", text=f"haproxy[7]: {line(request_id='abcdefgh').decode()}"),
        JournalLine(at=3.0, unit="vllm@e1.service", text="Main process exited, code=killed\n"),
    ]  # fmt: skip
    assert of_journal("lb1", lines) == [
        Entry(1.0, "lb1", "breaker open", "pool small, engine e1, reason 5xx"),
        Entry(3.0, "lb1", "vllm@e1", "Main process exited, code=killed"),
    ]


def test_lines_of_engines_cannot_steer_a_terminal() -> None:
    assert shown("\x1b[32mINFO\x1b[0m one\n\ttwo\x1b]0;title\x07") == "INFO one two ]0;title"


def test_entries_are_in_order_of_time_and_each_is_there_once() -> None:
    first, second = Entry(1.0, "lb1", "a"), Entry(2.0, "gpu1", "b")
    assert in_order([second, first, second]) == (first, second)
