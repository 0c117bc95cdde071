"""All balancers of an inventory at once. Partial success is a result, not an exception."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rackserve.fleet.errors import FleetError
from rackserve.fleet.ssh import Host, host_of

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What each balancer answered, and how the others failed. Both by name, in the inventory's order."""

    done: Mapping[str, T]
    failed: Mapping[str, FleetError]

    @property
    def complete(self) -> bool:
        return not self.failed

    @property
    def exit_code(self) -> int:
        """0: all; else the worst of the failures: refused or unexpected (1) says more than unreachable (3)."""
        return min((error.exit_code for error in self.failed.values()), default=0)


def on_each(hosts: Sequence[Host], do: Callable[[Host], T]) -> Outcome[T]:
    """Runs `do` on all hosts at the same time. Only FleetErrors are results; anything else is a bug and is raised."""

    def one(host: Host) -> T | FleetError:
        try:
            return do(host)
        except FleetError as error:
            return error

    if not hosts:
        return Outcome({}, {})
    with ThreadPoolExecutor(max_workers=min(len(hosts), 16)) as pool:
        results = dict(zip([host.name for host in hosts], pool.map(one, hosts), strict=True))
    failed = {name: result for name, result in results.items() if isinstance(result, FleetError)}
    done: dict[str, T] = {name: result for name, result in results.items() if not isinstance(result, FleetError)}
    return Outcome(done, failed)


def balancers_of(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> list[Host]:
    return [host_of(name, hosts[name]) for name in plan["balancers"]]
