"""What was read from an inventory, before it is judged: plain values, and where each of them stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rackserve.definition.problem import Path, Place, Problem

BALANCERS, GPU_NODES, MONITORS = "balancers", "gpu_nodes", "monitors"
GROUPS = (BALANCERS, GPU_NODES, MONITORS)
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Raw:
    """Values are plain (no tags, no templates left); lists are tuples. Host variables are those that describe nodes."""

    variables: Mapping[str, Any]
    hosts: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, tuple[str, ...]]
    places: Mapping[Path, Place] = field(default_factory=lambda: _NOTHING)
    problems: tuple[Problem, ...] = ()

    def at(self, path: Path) -> Any:
        """The value at a key path, None when there is none."""
        value: Any = self.hosts.get(str(path[1]), {}) if path[:1] == ("host",) and len(path) > 1 else self.variables
        for part in path[2:] if path[:1] == ("host",) else path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value
