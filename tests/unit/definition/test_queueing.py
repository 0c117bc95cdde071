"""The order of lanes in the queue, and which of them wait in front of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rackserve.definition.queueing import LARGEST_OFFSET_MS, queue_order, waiting_room


def lane(priority: int, **settings: Any) -> dict[str, Any]:
    return {"priority": priority, **settings}


def test_without_ageing_the_classes_decide() -> None:
    order = queue_order({"fast": lane(10), "slow": lane(200)})
    assert order == {"fast": (10, 0), "slow": (200, 0)}


def test_a_lane_that_ages_stands_behind_the_most_urgent_by_that_time() -> None:
    order = queue_order({"fast": lane(10), "slow": lane(200, ageing_seconds=60)})
    assert order == {"fast": (10, 0), "slow": (10, 60_000)}


def test_a_lane_between_two_gets_an_offset_between_theirs() -> None:
    lanes = {"fast": lane(1), "middle": lane(2), "slow": lane(3, ageing_seconds=60), "last": lane(4)}
    assert queue_order(lanes) == {"fast": (1, 0), "middle": (1, 30_000), "slow": (1, 60_000), "last": (4, 0)}


def test_ageing_beyond_what_haproxy_can_express_is_its_largest_offset() -> None:
    assert queue_order({"fast": lane(1), "slow": lane(2, ageing_seconds=3600)})["slow"] == (1, LARGEST_OFFSET_MS)


@given(st.lists(st.tuples(st.integers(0, 1000), st.none() | st.integers(1, 4000)), max_size=6))
def test_a_more_urgent_lane_without_ageing_of_its_own_is_never_behind(found: list[tuple[int, int | None]]) -> None:
    lanes = {f"l{number}": lane(priority, ageing_seconds=ageing) for number, (priority, ageing) in enumerate(found)}
    order = queue_order(lanes)
    ageing = [body["ageing_seconds"] for body in sorted(lanes.values(), key=lambda body: body["priority"])]
    if [value for value in ageing if value] == sorted(value for value in ageing if value):
        for one, first in lanes.items():
            for other, second in lanes.items():
                if first["priority"] < second["priority"]:
                    assert order[one] <= order[other]


def test_equal_lanes_wait_in_the_queue_itself() -> None:
    room = waiting_room({"fast": lane(1), "slow": lane(2)}, ["slow", "fast"], 20, {})
    assert room == {"native_seconds": 20, "lanes": {}, "reserved": {}}


@pytest.mark.parametrize(
    "settings",
    [
        {"slots_percent": 75},
        {"queue_percent": 50},
        {"queue_timeout_seconds": 60},
        {"slots_percent_by_hour": [{"from_hour": 8, "to_hour": 18, "slots_percent": 25}]},
    ],
)
def test_a_lane_with_something_of_its_own_waits_in_front(settings: dict[str, Any]) -> None:
    room = waiting_room({"fast": lane(1), "slow": lane(2, **settings)}, ["slow", "fast"], 20, {})
    assert (room["native_seconds"], list(room["lanes"])) == (20, ["slow"])


def test_the_queues_time_is_that_of_the_most_urgent_lane() -> None:
    lanes = {"fast": lane(1, queue_timeout_seconds=5), "slow": lane(2)}
    room = waiting_room(lanes, ["fast", "slow"], 20, {})
    assert (room["native_seconds"], room["lanes"]["slow"]["queue_seconds"]) == (5, 20)


def test_slots_kept_for_a_tenant_make_every_lane_wait_in_front() -> None:
    room = waiting_room({"fast": lane(1), "slow": lane(2)}, ["fast", "slow"], 20, {"research": 25.0})
    assert (list(room["lanes"]), room["reserved"]) == (["fast", "slow"], {"research": 25.0})
