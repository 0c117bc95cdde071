"""What a key, its tenant and its lane say together."""

from typing import Any

from rackserve.definition import limits

LANES: dict[str, Any] = {
    "interactive": {"limits": {"requests_per_minute": 60, "max_tokens": 500, "over_cap": None}},
    "batch": {"limits": {}},
}


def tenants(own: dict[str, Any], key: dict[str, Any], lane: str = "interactive") -> dict[str, Any]:
    return {"acme": {"lane": lane, "limits": own, "keys": [{"id": "one", "limits": key}]}}


def numbers(own: dict[str, Any], key: dict[str, Any], lane: str = "interactive") -> dict[str, int]:
    return limits.of_keys(tenants(own, key, lane), LANES)["acme/one"]


def test_a_tenant_has_its_lanes_limits_where_it_sets_none() -> None:
    assert numbers({}, {})["tenant_requests_per_minute"] == 60
    assert numbers({"requests_per_minute": 90}, {})["tenant_requests_per_minute"] == 90
    assert numbers({"requests_per_minute": None}, {})["tenant_requests_per_minute"] == 60


def test_a_key_is_counted_beside_its_tenant() -> None:
    found = numbers({}, {"requests_per_minute": 5})
    assert (found["key_requests_per_minute"], found["tenant_requests_per_minute"]) == (5, 60)


def test_of_two_caps_the_lower_holds() -> None:
    assert numbers({}, {"max_tokens": 100})["max_tokens"] == 100
    assert numbers({"max_tokens": 50}, {"max_tokens": 100})["max_tokens"] == 50


def test_a_cap_bounds_requests_that_say_nothing() -> None:
    assert numbers({}, {})["default_max_tokens"] == 500
    assert numbers({"default_max_tokens": 20}, {})["default_max_tokens"] == 20
    assert numbers({"default_max_tokens": 900}, {})["default_max_tokens"] == 500


def test_clamping_needs_a_cap() -> None:
    assert numbers({"over_cap": "clamp"}, {})["clamp"] == 1
    assert numbers({"over_cap": "clamp", "messages": 5}, {}, "batch")["clamp"] == 0


def test_a_key_without_limits_has_no_line() -> None:
    assert limits.of_keys(tenants({}, {}, "batch"), LANES) == {}
    assert limits.declared(tenants({}, {}, "batch"), LANES) == []


def test_a_tenant_without_keys_counts_among_the_declared() -> None:
    """Keys are added at run time, by maps alone."""
    keyless = {"acme": {"lane": "batch", "limits": {"messages": 9}, "keys": []}}
    assert limits.declared(keyless, LANES) == ["messages"]
    assert limits.message_caps(keyless, LANES) == [9]
