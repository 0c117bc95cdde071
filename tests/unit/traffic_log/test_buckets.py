"""Edges and classes of replies, as the settings give them."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rackserve.traffic_log.buckets import reply_class
from unit.traffic_log.making import EDGES, settings

CLASSES = {"0-99": [0, 99], "100-499": [100, 499], "500-": [500, None]}


def test_every_length_has_one_class(tmp_path: Path) -> None:
    classes = settings(tmp_path, reply_classes=CLASSES).reply_classes
    found = [reply_class(classes, tokens) for tokens in (0, 99, 100, 499, 500)]
    assert found == ["0-99", "0-99", "100-499", "100-499", "500-"]
    assert reply_class(settings(tmp_path).reply_classes, 7) == "any"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reply_classes": {"0-9": [0, 9], "11-": [11, None]}}, "has to begin at 10, and begins at 11"),
        ({"reply_classes": {"0-9": [0, 9], "5-": [5, None]}}, "has to begin at 10, and begins at 5"),
        ({"reply_classes": {"0-9": [0, 9]}}, "no class has replies of 10 tokens and more"),
        ({"edges": EDGES | {"ttft": [1.0, 0.5]}}, "edges.ttft has to be a list of ascending numbers"),
        ({"edges": {"ttft": [1.0]}}, "edges.inter_token has to be a list of ascending numbers"),
    ],
)
def test_classes_and_edges_that_would_lose_requests_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(tmp_path, **change)
