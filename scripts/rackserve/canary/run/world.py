"""What the controller asks of the world: the smallest set of verbs, each of which may be said again at any time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from rackserve.canary.judge.counts import Metric

Track = Literal["stable", "baseline", "canary"]
Thousandths = Annotated[int, Field(ge=0, le=1000)]


class Frozen(BaseModel):
    """What is kept in the journal: nothing changes after it was made, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(Frozen):
    """Thousandths of the pool's requests. Both 0: the pool has no entry, all requests are stable's."""

    canary: Thousandths = 0
    baseline: Thousandths = 0

    def __str__(self) -> str:
        return f"canary {self.canary / 10:g} %, baseline {self.baseline / 10:g} %" if self != NOTHING else "nothing"


NOTHING = Share()


@dataclass(frozen=True)
class Source:
    """Sums of one counting process since it began. `epoch` changes when it begins anew. Cells: metric -> track -> stratum ->
    (bad, of); `of`: requests that could have been bad."""

    epoch: str
    requests: Mapping[Track, int]
    cells: Mapping[Metric, Mapping[Track, Mapping[str, tuple[int, int]]]]


Totals = dict[str, Source]


@dataclass(frozen=True)
class BalancerSeen:
    """One balancer's word. `live`: the map's value of the running process, `file`: the one on disk. `tracks`: engine -> the one
    track whose backend may send it requests; None: no track. `drained`: told to get no new requests. `up`: its checks pass.
    `busy`: another change of that pool or a reload is on its way there; empty: none."""

    live: Share
    file: Share
    tracks: Mapping[str, Track | None]
    drained: frozenset[str] = frozenset()
    up: frozenset[str] = frozenset()
    busy: str = ""


@dataclass(frozen=True)
class EngineSeen:
    """The engine's own word. `release` None: nobody answers, `error` says why. `started`: differs after every start."""

    release: str | None
    started: str = ""
    error: str = ""


@dataclass(frozen=True)
class Order:
    """What a person told the run, from a file. `step`: with approve, the step's percentage."""

    name: str
    kind: Literal["pause", "resume", "approve", "abort"]
    run: str
    by: str
    step: float | None = None


@dataclass(frozen=True)
class Seen:
    """One look. `unreachable`: balancer -> why. `totals` None: the figures' source does not answer, `no_figures` says why; a sum
    that lacks one balancer is no sum. `orders` come from the journal's directory, oldest first, unanswered ones only; `taken` and
    `stopped` from the last beat."""

    balancers: Mapping[str, BalancerSeen]
    engines: Mapping[str, EngineSeen]
    unreachable: Mapping[str, str] = field(default_factory=dict)
    totals: Totals | None = None
    no_figures: str = ""
    orders: tuple[Order, ...] = ()
    taken: str = ""
    stopped: str = ""


class Ended(StrEnum):
    DONE = "done"  # it is so, read back at every place
    DOING = "doing"  # on its way; ask again
    UNDONE = "undone"  # somebody could not be asked or did not do it; saying it again is safe and may help
    FAILED = "failed"  # the release or the engine is at fault, or a person has to look: saying it again does not help


@dataclass(frozen=True)
class Outcome:
    kind: Ended
    reason: str = ""


DONE = Outcome(Ended.DONE)


@dataclass(frozen=True)
class Beat:
    """What balancers say to a beat, empty where all is well. `taken`: another run has the pool, or none. `stopped`: a person has
    taken this run's share back for good. A watchdog that did it is neither: the share shows it, and claim begins anew."""

    taken: str = ""
    stopped: str = ""


class Claim(Frozen):
    """Who holds a pool. `since`: seconds since 1970."""

    run: str
    pool: str
    release: str
    by: str
    since: float


class Event(Frozen):
    """What hooks are told (`kind` as in the definition) and, with kind `traffic`, what the audit log keeps."""

    kind: Literal["started", "step", "held", "approved", "rolled_back", "promoted", "halted", "traffic"]
    run: str
    pool: str
    by: str
    said: str
    before: str = ""
    after: str = ""


class World(Protocol):
    """One pool of one fleet. No verb raises for what can happen in operation; each returns within seconds, so that the canary is
    judged and the heartbeat goes on meanwhile: what takes longer answers DOING and is asked again until it is done. Each bounds
    its own whole time, and answers FAILED after it. All may be repeated, and begun again by another process."""

    def observe(self) -> Seen: ...

    def claim(self, claim: Claim) -> Outcome:
        """The pool at every balancer, for this run alone; again before users meet the canary, for a watchdog may have ended it.
        FAILED: another has it, or a person has stopped this one; the reason says who, what, since, run id."""
        ...

    def unclaim(self, claim: Claim) -> Outcome: ...

    def beat(self, claim: Claim, silent_seconds: float, fall_back: bool) -> Beat:
        """At every balancer that answers: the run lives. After `silent_seconds` without it a balancer sets the share to 0 by
        itself, unless not `fall_back`: then stable could not carry it."""
        ...

    def set_share(self, share: Share) -> Outcome:
        """At every balancer that answers, whatever the others do: the file, the running value, both read back."""
        ...

    def drain(self, engine: str) -> Outcome:
        """No new requests from any balancer. DONE once nothing runs there, by the balancers and by the engine itself."""
        ...

    def undrain(self, engine: str) -> Outcome:
        """DONE once every balancer's checks pass and it may send requests."""
        ...

    def move(self, engine: str, track: Track) -> Outcome:
        """Only of a drained engine at which nothing runs (else FAILED); states saved, so that they survive HAProxy."""
        ...

    def install(self, engine: str, release: str) -> Outcome:
        """On the engine's node, beside what is there; touches no traffic."""
        ...

    def start(self, engine: str, release: str) -> Outcome:
        """Only of a drained engine (else FAILED). Nothing happens where it runs that release already."""
        ...

    def check(self, engine: str, release: str) -> Outcome:
        """It runs the release, names the right model, gives tokens; then the warm-up prompts."""
        ...

    def smoke(self, engine: str) -> Outcome:
        """The forced route to the canary track: chat, stream, long prompt, stop, tools."""
        ...

    def quality(self, canary: str, baseline: str) -> Outcome:
        """The reference prompts on both engines."""
        ...

    def tell(self, event: Event) -> None:
        """Hooks, and the audit log for `traffic`. Never raises; a receiver that does not answer stops nothing."""
        ...
