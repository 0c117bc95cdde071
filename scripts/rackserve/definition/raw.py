"""What was read from an inventory, before it is judged: plain values, and where each of them stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rackserve.definition.problem import Path, Place, Problem

BALANCERS, GPU_NODES, MONITORS = "balancers", "gpu_nodes", "monitors"
GROUPS = (BALANCERS, GPU_NODES, MONITORS)
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Unreadable(str):
    """Stands where a template could not be rendered: that is reported once, and the value is not judged again."""

    __slots__ = ()


@dataclass(frozen=True)
class Raw:
    """Values are plain (no tags, no templates left); lists are tuples. Host variables are those that describe nodes."""

    variables: Mapping[str, Any]
    hosts: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, tuple[str, ...]]
    places: Mapping[Path, Place] = field(default_factory=lambda: _NOTHING)
    problems: tuple[Problem, ...] = ()
    # Variables that stand in a file of another inventory, linked here, with that file.
    shared: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    # Where problems are that belong to no line: the inventory itself.
    source: str = "inventory"
