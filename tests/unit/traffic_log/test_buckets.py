"""Edges and classes of replies."""

from rackserve.traffic_log.buckets import LADDERS, edges, reply_class, reply_classes
from rackserve.traffic_log.settings import ReplyLength, Slo


def test_a_threshold_is_an_edge_once_and_in_order() -> None:
    slos = [Slo(indicator="ttft", threshold_seconds=one) for one in (0.5, 2.0, 2.0)]
    found = edges("ttft", slos)
    assert found == tuple(sorted({*map(float, LADDERS["ttft"]), 2.0}))
    assert edges("queue_wait", slos) == tuple(map(float, LADDERS["queue_wait"]))


def test_every_length_has_one_class() -> None:
    slos = [
        Slo(indicator="response_time", threshold_seconds=1.0, reply_length=ReplyLength(to_tokens=99)),
        Slo(indicator="response_time", threshold_seconds=9.0, reply_length=ReplyLength(from_tokens=100, to_tokens=499)),
    ]
    classes = reply_classes(slos)
    assert [reply_class(classes, tokens) for tokens in (0, 99, 100, 499, 500)] == [
        *("0-99", "0-99", "100-499", "100-499", "500-")
    ]
    assert reply_class(reply_classes([]), 7) == "any"
