"""States of servers onto a balancer's disk, so that a HAProxy that is killed comes back with what was set at it."""

from collections.abc import Sequence

from rackserve.fleet.balancers import Outcome
from rackserve.fleet.errors import FleetError
from rackserve.fleet.ssh import Host

# As in every command: somebody could not be asked.
_UNKNOWN = 3


def saved(host: Host, command: Sequence[str], deadline_seconds: float) -> str:
    """Returns why not. An empty command is nothing to do."""
    if not command:
        return ""
    try:
        asked = {"command": list(command), "seconds": deadline_seconds * 0.8}
        host.call("server_state", asked, deadline_seconds)
    except FleetError as error:
        return str(error)
    return ""


def unsaved(outcome: Outcome[str]) -> dict[str, str]:
    """Balancer -> why not. One that refuses is an error; one that could not be asked shows at the next look."""
    for error in outcome.failed.values():
        if error.exit_code != _UNKNOWN:
            raise error
    return {name: why for name, why in outcome.done.items() if why}
