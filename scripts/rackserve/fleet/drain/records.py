"""Records of drains on the balancers: who took an engine out, and who is at work on it now. They are also the lock."""

import getpass
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.fleet.balancers import Outcome, on_each
from rackserve.fleet.drain.sight import STALE_SECONDS, Record
from rackserve.fleet.errors import FleetError, NonsenseError, TimedOutError, UnreachableError
from rackserve.fleet.period import words
from rackserve.fleet.ssh import Host

Form = TypeVar("Form", bound=BaseModel)
DEADLINE_SECONDS = 10.0


class _All(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    now: float
    records: dict[str, Record]


class _Held(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    now: float
    taken: dict[str, Record]
    fresh: tuple[str, ...]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    now: float
    lost: tuple[str, ...]


class InOtherHands(Exception):
    """Somebody else is at work on the engines."""


def read_records(host: Host, directory: str, deadline_seconds: float) -> tuple[float, dict[str, Record]]:
    """The balancer's clock and its records by engine."""
    said = host.call("drains", {"action": "read", "directory": directory}, deadline_seconds)
    found = _read(_All, host, said)
    return found.now, found.records


def operator() -> str:
    """Who gives the command, for others to ask."""
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


@dataclass
class Hold:
    """These engines in one's own hands, at every balancer that answers. Taken in the inventory's order, so that of two at the
    same time one gets them all. `holder`: the operator, and a word of chance for this command."""

    hosts: Sequence[Host]
    directories: Mapping[str, str]
    by: str = field(default_factory=operator)
    holder: str = ""
    held: list[Host] = field(default_factory=list)

    def take(self, engines: Sequence[str], step: str, since: float, reason: str = "") -> list[str]:
        """Returns balancers without a record, because they could not be asked. Raises InOtherHands, and holds none then."""
        self.holder = f"{self.by}#{os.getpid()}-{secrets.token_hex(6)}"
        fields = {"by": self.by, "since": since, "step": step, "reason": reason}
        without, fresh = [], dict.fromkeys(engines, True)
        try:
            for host in self.hosts:
                asked = self._asked("hold", host, {name: {"engine": name, **fields} for name in engines})
                try:
                    answer = self._hold(host, asked)
                except (UnreachableError, TimedOutError):
                    without.append(host.name)
                    continue
                self.held.append(host)
                fresh = {name: fresh[name] and name in answer.fresh for name in engines}
        except (FleetError, InOtherHands):
            self.drop([name for name in engines if fresh[name]])
            self.leave([name for name in engines if not fresh[name]])
            raise
        return without

    def _hold(self, host: Host, asked: Mapping[str, Any]) -> _Held:
        """Raises InOtherHands, unless the other hands are those of a command here that has died."""
        whole = {**asked, "stale_seconds": STALE_SECONDS, "dead": []}
        answer = _read(_Held, host, host.call("drains", whole, DEADLINE_SECONDS))
        dead = [one.holder for one in answer.taken.values() if _dead(one.holder)]
        if dead:
            answer = _read(_Held, host, host.call("drains", {**whole, "dead": dead}, DEADLINE_SECONDS))
        if answer.taken:
            raise InOtherHands("; ".join(_whose(one, answer.now) for one in answer.taken.values()))
        return answer

    def keep(self, engines: Sequence[str], **news: Any) -> None:
        """Says that one is still there, and what is new. Raises InOtherHands when somebody has taken over."""
        outcome = self._tell_all(dict.fromkeys(engines, news))
        lost = sorted({name for names in outcome.done.values() for name in names})
        if lost:
            raise InOtherHands(f"{', '.join(lost)}: somebody else has taken over, because this command was silent")

    def leave(self, engines: Sequence[str], **news: Any) -> None:
        """Lets go; the record stays and says what was reached."""
        self._tell_all({name: {**news, "holder": ""} for name in engines})

    def drop(self, engines: Sequence[str]) -> None:
        """Nothing is left to be told about them."""
        self._tell_all(dict.fromkeys(engines))

    def _tell_all(self, fields: Mapping[str, Any]) -> Outcome[tuple[str, ...]]:
        return on_each(self.held if fields else [], lambda host: self._tell(host, fields))

    def _tell(self, host: Host, fields: Mapping[str, Any]) -> tuple[str, ...]:
        said = host.call("drains", self._asked("keep", host, fields), DEADLINE_SECONDS)
        return _read(_Kept, host, said).lost

    def _asked(self, action: str, host: Host, engines: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "action": action,
            "directory": self.directories[host.name],
            "holder": self.holder,
            "engines": dict(engines),
        }


def _dead(holder: str) -> bool:
    """It ran on this machine, and its process is no more."""
    operator_there, _, process = holder.partition("#")
    number = process.partition("-")[0]
    if operator_there.rpartition("@")[2] != socket.gethostname() or not number.isdigit():
        return False
    return not Path(f"/proc/{number}").exists()


def _whose(record: Record, now: float) -> str:
    ago = max(now - record.since, 0)
    return f"{record.engine}: {record.holder.split('#')[0]} is at work on it ({record.step}), begun {words(ago)} ago"


def _read(form: type[Form], host: Host, said: Any) -> Form:
    try:
        return form.model_validate(said)
    except ValidationError as error:
        raise NonsenseError(host.name, "drains", str(said)[:200]) from error
