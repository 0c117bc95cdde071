"""All HAProxy processes of a balancer at once: the one that takes requests, and old ones that still carry streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.fleet.errors import NonsenseError, RefusedError
from rackserve.fleet.ssh import Host


class Replies(BaseModel):
    """By command; `old` by process. `unknown`: why old processes could not be asked, empty when they could."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: tuple[str, ...]
    old: Mapping[str, tuple[str, ...]]
    unknown: str


@dataclass(frozen=True)
class Workers:
    """`socket` leads to the process that takes requests, `master` to all. The deadline includes the way there."""

    host: Host
    socket: str
    master: str
    deadline_seconds: float = 10

    def ask(self, commands: Sequence[str], old_commands: Sequence[str]) -> Replies:
        asked = {
            "socket": self.socket,
            "master": self.master,
            "commands": list(commands),
            "old_commands": list(old_commands),
            # Each command; the whole is bounded by the deadline.
            "seconds": self.deadline_seconds * 0.8,
        }
        said = self.host.call("workers", asked, self.deadline_seconds)
        try:
            replies = Replies.model_validate(said)
        except ValidationError as error:
            raise NonsenseError(self.host.name, "workers", str(said)[:200]) from error
        if len(replies.current) != len(commands) or any(len(one) != len(old_commands) for one in replies.old.values()):
            raise NonsenseError(self.host.name, "workers", "not one reply for each command")
        return replies

    def tell(self, commands: Sequence[str]) -> None:
        """Setters, for the process that takes requests: old ones refuse them ("Proxy is disabled"), and take no new requests.

        Silent when done; raises RefusedError with the first that was not.
        """
        replies = self.ask(commands, [])
        for command, reply in zip(commands, replies.current, strict=True):
            if reply.strip():
                raise RefusedError(self.host.name, command, reply)
