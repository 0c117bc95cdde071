"""Shares given and taken back, at all balancers at the same time. Given: the file first, everywhere, then the running process,
then both are read back. Taken back: the running process first."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.moves.share import NONE, Share
from rackserve.canary.moves.sight import Back
from rackserve.canary.moves.split import Split
from rackserve.fleet.balancers import Outcome, on_each
from rackserve.fleet.errors import FleetError, NonsenseError
from rackserve.fleet.ssh import Host


class ShareRefused(ValueError):
    """Nobody gives this share."""


@dataclass(frozen=True)
class Given:
    """`live`: balancers whose running process goes by it. `failed`: the others, and why. `left`: balancers whose file keeps it
    although it was not given, and why: the next look names them."""

    share: Share
    live: tuple[str, ...]
    failed: Mapping[str, FleetError]
    left: Mapping[str, FleetError]

    @property
    def complete(self) -> bool:
        return not self.failed


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str | None
    after: str | None


def give(split: Split, share: Share, run: str, by: str = "", promoting: bool = False, partly: bool = False) -> Given:
    """For a run that has begun (runs.begin) and that nobody has stopped; a balancer refuses any other.

    No running process is told anything unless every file has it; `partly`: a balancer that cannot be asked does not keep the others
    from it, for a share that falls. `promoting`: more than half may go to the canary. Raises ShareRefused for a share that nobody
    gives.
    """
    if share == NONE:
        raise ShareRefused("a share of 0 is not given: take it back")
    if refusal := share.refusal(promoting):
        raise ShareRefused(refusal)
    asked = {"run": run, "by": by or run, "where": "", "why": f"run {run}"}
    files = on_each(split.balancers, partial(_put, split, "file", share.text, asked))
    if not (files.complete or partly):
        return Given(share, (), files.failed, _put_back(split, files, asked))
    hosts = [host for host in split.balancers if host.name in files.done]
    told = on_each(hosts, partial(_put, split, "live", share.text, asked))
    return Given(share, tuple(told.done), {**files.failed, **told.failed}, {})


def _put(split: Split, action: str, value: str | None, asked: Mapping[str, Any], host: Host) -> _Change:
    raw = split.ask(host, action, value=value, **asked)
    try:
        change = _Change.model_validate(raw)
    except ValidationError as error:
        raise NonsenseError(host.name, f"shares of {split.pool}", str(raw)[:200]) from error
    if change.after != value:
        raise NonsenseError(host.name, f"share {value} for {split.pool} ({action})", f"after it: {change.after!r}")
    return change


def _put_back(split: Split, files: Outcome[_Change], asked: Mapping[str, Any]) -> Mapping[str, FleetError]:
    hosts = [host for host in split.balancers if host.name in files.done]
    return on_each(hosts, lambda host: _put(split, "file", files.done[host.name].before, asked, host)).failed


@dataclass(frozen=True)
class Word:
    """Who takes a share back, from where and why. `stop`: the pool's run gets none any more; a controller that only lowers its own
    share does not say so. `hard`: what runs on the canary ends too. `force`: also where stable has no engine in service."""

    by: str
    why: str
    where: str = ""
    stop: bool = True
    hard: bool = False
    force: bool = False


def take_back(split: Split, word: Word, tell: Callable[[str, Back], None] | None = None) -> Outcome[Back]:
    """The share to 0. `tell`: gets each balancer's answer as it comes, while a dead one is still waited for."""

    def one(host: Host) -> Back:
        back = _back(split, host, word)
        if tell is not None:
            tell(host.name, back)
        return back

    return on_each(split.balancers, one)


def _back(split: Split, host: Host, word: Word) -> Back:
    raw = split.ask(host, "back", final=True, **asdict(word))
    try:
        return Back.model_validate(raw)
    except ValidationError as error:
        raise NonsenseError(host.name, f"shares of {split.pool}", str(raw)[:200]) from error
