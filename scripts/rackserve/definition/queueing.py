"""How requests of several lanes wait for the slots of one pool. Pure: plain data in, plain data out.

HAProxy's own queue orders by class, then by time of arrival plus an offset. It has one time limit per backend and knows
no shares, so lanes that need more wait in front of it, in the balancer's waiting room.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# HAProxy's range for an offset in the queue.
LARGEST_OFFSET_MS = 524_287


def queue_order(lanes: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Class and offset (ms) of each lane.

    A lane with ageing shares the class of the most urgent one and stands behind it by its ageing: a request that has
    waited for so long is ordered before whatever comes then. Lanes between the two get an offset between theirs.
    """
    ordered = sorted(lanes, key=lambda name: (lanes[name]["priority"], name))
    first = lanes[ordered[0]]["priority"] if ordered else 0
    aged = [number for number, name in enumerate(ordered) if lanes[name].get("ageing_seconds")]
    last_aged = aged[-1] if aged else -1
    order: dict[str, tuple[int, int]] = {}
    behind = 0
    for number, name in enumerate(ordered):
        lane = lanes[name]
        if number > last_aged:
            order[name] = (lane["priority"], 0)
        elif lane["priority"] == first:
            order[name] = (first, 0)
        else:
            own = lane.get("ageing_seconds")
            following = next(lanes[ordered[other]]["ageing_seconds"] for other in aged if other >= number)
            behind = _offset(own) if own else (behind + _offset(following)) // 2
            order[name] = (first, behind)
    return order


def _offset(seconds: float) -> int:
    return min(round(seconds * 1000), LARGEST_OFFSET_MS)


def waiting_room(
    lanes: Mapping[str, Mapping[str, Any]],
    accepted: Iterable[str],
    queue_seconds: float,
    reserved: Mapping[str, float],
) -> dict[str, Any]:
    """The time limit of the pool's own queue, and the lanes that wait in front of it with what they need.

    `reserved`: tenants with the share (percent) of the pool's slots that is kept free for them.
    """
    names = sorted(accepted, key=lambda name: (lanes[name]["priority"], name))
    limits = {name: lanes[name].get("queue_timeout_seconds") or queue_seconds for name in names}
    native = limits[names[0]] if names else queue_seconds
    order = queue_order(lanes)
    inside = {}
    for name in names:
        lane = lanes[name]
        restricted = (
            lane.get("slots_percent", 100) < 100
            or bool(lane.get("slots_percent_by_hour"))
            or lane.get("queue_percent", 100) < 100
        )
        if restricted or reserved or limits[name] != native:
            inside[name] = {
                "queue_seconds": limits[name],
                "slots_percent": lane.get("slots_percent", 100),
                "slots_percent_by_hour": [dict(share) for share in lane.get("slots_percent_by_hour") or ()],
                "queue_percent": lane.get("queue_percent", 100),
                "ageing_seconds": lane.get("ageing_seconds"),
                "queue_class": order[name][0],
                "queue_offset_ms": order[name][1],
            }
    return {"native_seconds": native, "lanes": inside, "reserved": dict(reserved)}
