"""Where things lie on a balancer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RECORDS = "/var/lib/rackserve/drains"
RUNS = "/var/lib/rackserve/canary"
SAVER = "/usr/local/lib/rackserve/save_server_state.py"


@dataclass(frozen=True)
class Paths:
    """Of one balancer. `saver`: the command that saves the state of servers; empty: there is none. `records`: of drains; `runs`: of
    canary runs."""

    socket: str
    master: str
    configuration: str
    saver: tuple[str, ...] = ()
    records: str = RECORDS
    runs: str = RUNS


def paths_of(role: Mapping[str, Any]) -> Paths:
    """From the variables of the role haproxy."""
    socket = f"{role['haproxy_runtime_directory']}/admin.sock"
    directory = str(role["haproxy_config_directory"])
    state = f"{role['haproxy_state_directory']}/server-state"
    return Paths(
        socket, str(role["haproxy_master_socket"]), directory, (SAVER, socket, state, f"{directory}/haproxy.cfg")
    )
