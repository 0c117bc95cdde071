"""Whom to ask about a pool's split, and where. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackserve.fleet.paths import Paths
from rackserve.fleet.ssh import Host
from rackserve.fleet.tracks import TRACKS

# Of every call, the way there included. Whoever takes longer counts as one that cannot be asked.
DEADLINE_SECONDS = 10.0


@dataclass(frozen=True)
class Split:
    """One pool at the balancers of an inventory."""

    pool: str
    engines: tuple[str, ...]
    balancers: Sequence[Host]
    paths: Mapping[str, Paths]

    def ask(self, host: Host, action: str, **more: Any) -> Any:
        """One action of the program `shares` on one balancer. Raises FleetError."""
        return host.call("shares", {**self.places(host), "action": action, **more}, DEADLINE_SECONDS)

    def places(self, host: Host) -> dict[str, Any]:
        paths = self.paths[host.name]
        return {
            "pool": self.pool,
            "tracks": list(TRACKS),
            "socket": paths.socket,
            "master": paths.master,
            "directory": paths.configuration,
            "records": paths.runs,
            # Each command to HAProxy; the whole is bounded by the deadline.
            "seconds": DEADLINE_SECONDS / 4,
        }
