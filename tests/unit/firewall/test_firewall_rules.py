"""The list of listeners is judged, and two nftables tables compared, without a kernel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[3] / "plugins/module_utils/rackserve_firewall.py"
spec = importlib.util.spec_from_file_location("rackserve_firewall", SOURCE)
assert spec is not None
assert spec.loader is not None
rules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rules)


def listener(**changes: Any) -> dict[str, Any]:
    return {"name": "engine", "port": 8001, "protocol": "tcp", "sources": ["10.0.0.1"], **changes}


@pytest.mark.parametrize(
    ("changes", "place", "value", "allowed"),
    [
        ({"port": 0}, "firewall_listeners[0].port", "is 0", "1 to 65535"),
        ({"port": 65536}, "firewall_listeners[0].port", "65536", "1 to 65535"),
        ({"port": "8001"}, "firewall_listeners[0].port", "'8001'", "whole number"),
        ({"port": True}, "firewall_listeners[0].port", "True", "whole number"),
        ({"protocol": "sctp"}, "firewall_listeners[0].protocol", "'sctp'", "tcp, udp and vrrp"),
        ({"protocol": "vrrp"}, "firewall_listeners[0].port", "8001", "0 is allowed"),
        ({"sources": []}, "firewall_listeners[0].sources", "is empty", "[any]"),
        ({"sources": None}, "firewall_listeners[0].sources", "is empty", "[any]"),
        ({"sources": ["any", "10.0.0.1"]}, "firewall_listeners[0].sources", "mixes any", "any alone"),
        ({"sources": ["10.0.0.300"]}, "firewall_listeners[0].sources", "'10.0.0.300'", "IPv4 or IPv6"),
        ({"sources": ["10.0.0.1/24"]}, "firewall_listeners[0].sources", "'10.0.0.1/24'", "a network such as"),
        ({"sources": ["lb1"]}, "firewall_listeners[0].sources", "'lb1'", "an IPv4 or IPv6 address"),
        ({"name": 'x" accept; drop'}, "firewall_listeners[0].name", "accept; drop", "letters, digits"),
        ({"name": "x\ny"}, "firewall_listeners[0].name", "x\\ny", "letters, digits"),
        ({"name": ""}, "firewall_listeners[0].name", "''", "letters, digits"),
    ],
)
def test_a_bad_listener_is_named_with_place_value_and_what_is_allowed(
    changes: dict[str, Any], place: str, value: str, allowed: str
) -> None:
    problems = rules.check_listeners([listener(**changes)])
    assert len(problems) == 1, problems
    assert place in problems[0]
    assert value in problems[0]
    assert allowed in problems[0]


def test_all_mistakes_of_a_list_are_reported_at_once() -> None:
    problems = rules.check_listeners([listener(port=0, sources=["x"]), listener(), listener(protocol="icmp")])
    assert [problem.split(" ")[0] for problem in problems] == [
        "firewall_listeners[0].port",
        "firewall_listeners[0].sources",
        "firewall_listeners[2].protocol",
    ]


def test_a_protocol_without_ports_has_port_0_and_lets_no_ssh_in() -> None:
    vrrp = listener(protocol="vrrp", port=0)
    assert rules.check_listeners([vrrp]) == []
    assert not rules.admits([vrrp], "10.0.0.1", 22)


@pytest.mark.parametrize("sources", [["any"], ["10.0.0.1"], ["10.0.0.0/24", "fd00::/8"], ["::1"]])
def test_a_sound_listener_has_no_problem(sources: list[str]) -> None:
    assert rules.check_listeners([listener(sources=sources)]) == []


@pytest.mark.parametrize(
    ("sources", "client", "admitted"),
    [
        (["any"], "203.0.113.9", True),
        (["any"], "2001:db8::1", True),
        (["10.0.0.0/24"], "10.0.0.200", True),
        (["10.0.0.0/24"], "10.0.1.1", False),
        (["10.0.0.1"], "::ffff:10.0.0.1", True),
        (["fd00::/8"], "fd00::5%eth0", True),
        (["fd00::/8"], "10.0.0.1", False),
        (["10.0.0.1"], "127.0.0.1", True),
    ],
)
def test_who_may_open_ssh_follows_the_sources(sources: list[str], client: str, admitted: bool) -> None:
    assert rules.admits([listener(port=22, sources=sources)], client, 22) is admitted


def test_another_port_or_udp_does_not_let_ssh_in() -> None:
    assert not rules.admits([listener(port=2222, sources=["any"])], "10.0.0.1", 22)
    assert not rules.admits([listener(port=22, protocol="udp", sources=["any"])], "10.0.0.1", 22)


def test_a_lockout_names_client_port_and_the_line_to_add() -> None:
    reason = rules.lockout([listener()], "10.0.0.9", 2200)
    assert "ssh from 10.0.0.9 to port 2200" in reason
    assert "port: 2200, protocol: tcp, sources: [any]" in reason
    assert rules.lockout([listener(port=2200, sources=["any"])], "10.0.0.9", 2200) is None


def table(**changes: Any) -> dict[str, Any]:
    rule = {
        "family": "inet",
        "handle": 7,
        "comment": "ssh",
        "expr": [{"counter": {"packets": 5, "bytes": 9}}, {"accept": None}],
    }
    return {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"rule": {**rule, **changes}}]}


def test_handles_counters_and_the_version_make_no_difference_but_a_verdict_does() -> None:
    one = rules.comparable(table())
    assert one == rules.comparable(table(handle=9, expr=[{"counter": {"packets": 0, "bytes": 0}}, {"accept": None}]))
    assert one != rules.comparable(table(expr=[{"counter": {"packets": 5, "bytes": 9}}, {"drop": None}]))
    assert one != rules.comparable({"nftables": []})
