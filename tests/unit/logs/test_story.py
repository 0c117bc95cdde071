"""The search over a fleet: what is asked of whom, nodes that are down, and the exit code that follows."""

import base64
import re
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from rackserve.fleet.errors import RefusedError, UnreachableError
from rackserve.traffic_log.history.search import Story, requests_of_pool, story
from unit.status.playing import PlayedHost
from unit.traffic_log.making import line

ID = "abcdefgh-1"
NOW = 1_764_403_200.0
PLAN: dict[str, Any] = {
    "pools": {"small": {"timeouts": {"silence_seconds": 2}}, "large": {"timeouts": {"silence_seconds": 2}}},
    "engines": [
        {"name": "small-gpu1", "node": "gpu1", "pool": "small"},
        {"name": "large-gpu2", "node": "gpu2", "pool": "large"},
    ],
}
DOWN = UnreachableError("192.0.2.9", "request_lines", "no route to host")


def packed(*lines: bytes, cut: str = "") -> dict[str, Any]:
    text = zlib.compress(b"".join(one + b"\n" for one in lines))
    return {"lines": base64.b64encode(text).decode(), "count": len(lines), "cut": cut}


def node(name: str, *lines: bytes, journal: Sequence[tuple[float, str, str]] = (), **others: Any) -> PlayedHost:
    written = [{"at": at, "unit": unit, "text": text} for at, unit, text in journal]
    return PlayedHost(name, {"request_lines": packed(*lines), "journal": written, **others})


def told(balancers: list[PlayedHost], engines: list[PlayedHost]) -> Story:
    return story(ID, balancers, engines, PLAN, NOW - 3600, 5)


def journals_asked(host: PlayedHost) -> list[dict[str, Any]]:
    return [argument for program, argument in host.asked if program == "journal"]


def test_balancer_engine_and_events_make_one_timeline() -> None:
    lb1 = node("lb1", line(request_id=ID, time=NOW, ending="SD"))
    gpu1 = node("gpu1", journal=[(NOW + 1, "vllm@small-gpu1.service", "Main process exited, code=killed")])
    found = told([lb1, node("lb2")], [gpu1, node("gpu2")])
    assert [entry.node for entry in found.entries][-2:] == ["gpu1", "lb1"]
    assert found.entries[-1].what == "the engine broke off"
    assert (found.exit_code, dict(found.missing)) == (0, {})


def test_of_a_known_request_only_its_pool_is_asked_and_only_around_it() -> None:
    gpu1, gpu2, lb1 = node("gpu1"), node("gpu2"), node("lb1", line(request_id=ID, time=NOW, total_ms=2000))
    told([lb1], [gpu1, gpu2])
    assert gpu2.asked == []
    (asked,) = journals_asked(gpu1)
    assert asked["units"] == ["vllm@small-gpu1.service"]
    assert (asked["since"], asked["until"]) == (NOW - 10, NOW + 12)
    assert '"pool":"(?:small)"' in journals_asked(lb1)[1]["pattern"]


def test_what_the_balancer_says_about_the_pools_engines_is_told_and_of_no_other() -> None:
    lb1 = node("lb1", line(request_id=ID, time=NOW))
    told([lb1], [node("gpu1"), node("gpu2")])
    pattern = re.compile(journals_asked(lb1)[1]["pattern"])
    checks, track = "Server engines/small-gpu1 is DOWN, reason: Layer4 connection problem", "Server pool-small-stable/"
    assert pattern.search(checks)
    assert not pattern.search(checks.replace("small-gpu1", "large-gpu2")), "an engine of another pool"
    assert not pattern.search(checks.replace("Server engines/", track)), "once is enough"


def test_an_unknown_request_is_looked_for_in_every_engines_journal() -> None:
    engines = [node("gpu1"), node("gpu2", journal=[(NOW, "vllm@large-gpu2.service", f"Aborted chatcmpl-{ID}")])]
    found = told([node("lb1"), node("lb2")], engines)
    assert [(entry.node, entry.what) for entry in found.entries] == [("gpu2", "vllm@large-gpu2")]
    assert journals_asked(engines[0])[0]["until"] is None
    assert found.exit_code == 0


def test_a_line_that_only_the_journal_has_is_enough() -> None:
    text = f"haproxy[7]: {line(request_id=ID, time=NOW).decode()}"
    gone = RefusedError("192.0.2.1", "request_lines", "the log service of this balancer has not run yet")
    found = told([node("lb1", journal=[(NOW, "haproxy.service", text)], request_lines=gone)], [node("gpu1")])
    assert found.entries[-1].what == "answered"
    assert "has not run yet" in found.missing["lb1"]


def test_retries_of_a_client_under_one_id_are_all_told() -> None:
    lb1 = node("lb1", line(request_id=ID, time=NOW, status=429, refused="rate_limit_exceeded", ending="PR"))
    found = told([lb1, node("lb2", line(request_id=ID, time=NOW + 5))], [node("gpu1")])
    assert [entry.what for entry in found.entries if entry.what in ("answered", "refused: rate_limit_exceeded")] == [
        "refused: rate_limit_exceeded",
        "answered",
    ]
    assert [one.balancer for one in found.requests] == ["lb1", "lb1"], "as their lines say"


@pytest.mark.parametrize(
    ("balancers", "engines", "code"),
    [
        ([node("lb1"), node("lb2")], [node("gpu1")], 1),
        ([node("lb1"), PlayedHost("lb2", {"request_lines": DOWN})], [node("gpu1")], 3),
        ([node("lb1")], [PlayedHost("gpu1", {"journal": DOWN})], 3),
        ([node("lb1", line(request_id=ID)), PlayedHost("lb2", {"request_lines": DOWN})], [node("gpu1")], 0),
    ],
)
def test_not_found_is_certain_only_when_everybody_was_asked(
    balancers: list[PlayedHost], engines: list[PlayedHost], code: int
) -> None:
    found = told(balancers, engines)
    assert found.exit_code == code
    assert all("no route to host" in why for why in found.missing.values())
    assert len(found.missing) == (0 if code == 1 else 1)


def test_a_cut_search_is_told() -> None:
    lb1 = node("lb1", request_lines=packed(cut="only the newest files"))
    assert told([lb1], [node("gpu1")]).missing == {"lb1": "only the newest files"}


def test_requests_of_a_pool_from_every_balancer_that_answers() -> None:
    hosts = [
        node("lb1", line(time=NOW), line(time=NOW, pool="large"), b"garbage"),
        node("lb2", request_lines=packed(line(time=NOW), cut="only the newest 1 lines")),
        PlayedHost("lb3", {"request_lines": DOWN}),
    ]
    found = requests_of_pool("small", hosts, NOW - 10, 5)
    assert len(list(found.requests)) == 2
    assert (dict(found.cut), list(found.failed)) == ({"lb2": "only the newest 1 lines"}, ["lb3"])
    assert hosts[0].asked[0][1]["text"] == '"pool":"small"'
