"""Where a run stands: what the journal keeps. Everything that the next decision needs besides the world itself."""

from enum import StrEnum

from pydantic import Field

from rackserve.canary.judge.counts import Window
from rackserve.canary.run.world import NOTHING, Event, Frozen, Share, Totals, Track


class State(StrEnum):
    IDLE = "idle"  # no run
    PREFLIGHT = "preflight"  # the pool is claimed, all is as a run needs it, or nothing was changed
    PREPARING = "preparing"  # the canary's engine gets the release, the baseline's its track; no user sees either
    SMOKE = "smoke"  # the forced route and the reference prompts; no user sees the canary
    STEP = "step"  # users on a share below load parity
    LOAD_PARITY = "load_parity"  # the canary's engine has the load of any other
    PROMOTING = "promoting"  # engine by engine
    DONE = "done"  # every engine is stable's and runs the release
    HOLD = "hold"  # nothing moves, the canary is judged
    ROLLING_BACK = "rolling_back"  # the share first, then the engines
    ROLLED_BACK = "rolled_back"  # every engine is stable's and runs the release from before
    HALTED = "halted"  # a person has to look; healthy engines of either release serve


CARRYING = frozenset({State.STEP, State.LOAD_PARITY, State.PROMOTING})


class Phase(StrEnum):
    ACT = "act"  # effects, one after the other
    SETTLE = "settle"  # the first seconds after a shift do not count
    OBSERVE = "observe"


class Why(StrEnum):
    """What a hold waits for."""

    PAUSED = "paused"  # resume
    GATE = "gate"  # approve
    EDITED = "edited"  # resume: somebody else changed shares or tracks
    JOURNAL = "journal"  # resume: a part of the journal is damaged
    EVIDENCE = "evidence"  # ends by itself once there is enough
    SOURCE = "source"  # ends by itself once the figures come again
    CONTROL = "control"  # ends by itself once there is somebody to compare with
    BALANCER = "balancer"  # ends by itself once every balancer answers
    EFFECT = "effect"  # ends by itself once it could be done


BY_HAND = frozenset({Why.PAUSED, Why.EDITED, Why.JOURNAL})


class Hold(Frozen):
    why: Why
    reason: str


class Moment(Frozen):
    """`seconds`: of a clock that never goes back, comparable within one `boot`. `wall`: for people only."""

    boot: str
    seconds: float
    wall: float

    def after(self, earlier: "Moment") -> float:
        """Seconds in between as far as they are certain: none, where the machine was started since or is another one."""
        return max(self.seconds - earlier.seconds, 0.0) if self.boot == earlier.boot else 0.0


class Act(StrEnum):
    CLAIM = "claim"
    UNCLAIM = "unclaim"
    SHARE = "set_share"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    MOVE = "move"
    INSTALL = "install"
    START = "start"
    CHECK = "check"
    SMOKE = "smoke"
    QUALITY = "quality"


class Effect(Frozen):
    """One verb of the world with what it is about."""

    act: Act
    engine: str = ""
    release: str = ""
    track: Track | None = None
    share: Share | None = None

    def __str__(self) -> str:
        more = [
            str(one) for one in (self.engine, self.release, self.track, self.share) if one is not None and one != ""
        ]
        return " ".join([self.act.value.replace("_", " "), *more])


class Record(Frozen):
    """`at`: where it is, under a hold too; `state`: what people are told. `halted_from`: where `resume` goes on.

    `level` of the plan's levels, -1 before the first; `turn`: which engine is promoted; `task`: the next effect of the state's.
    `share`: in force at every balancer, as it was read back. `intent`: on disk before it is done, until its result is.
    `adrift`: balancers may differ (a process died, one could not be asked); they are made equal at the lower side first.
    `touched`: engines that were taken out for the release. `gradual`: stable cannot carry all, so rollback goes engine by engine.
    `troubles`: of engines that could not be brought back; the others are.
    `window`, `mark`, `marked`: what was judged until then, against `control`, with `equal` load of both sides' engines or not.
    `began`: of this phase; `limit_began`: for the observation's limit.
    `identity`: the canary process that is being judged. `untold`: events that hooks and the audit log may not have.
    `answers`: order -> what came of it.
    """

    at: State
    phase: Phase = Phase.ACT
    level: int = -1
    turn: int = 0
    task: int = 0
    share: Share = NOTHING
    intent: Effect | None = None
    adrift: bool = False
    touched: tuple[str, ...] = ()
    gradual: bool = False
    troubles: tuple[str, ...] = ()
    approved: int = -1
    hold: Hold | None = None
    halted_from: State | None = None
    began: Moment
    limit_began: Moment
    window: Window = Window()
    control: Track = "baseline"
    equal: bool = False
    mark: Totals | None = None
    marked: Moment
    identity: str = ""
    reason: str = ""
    untold: tuple[Event, ...] = ()
    answers: dict[str, str] = Field(default_factory=dict)
    over: bool = False

    @property
    def state(self) -> State:
        return State.HOLD if self.hold else self.at

    @property
    def where(self) -> State:
        """The state whose rules hold, under a hold and when halted."""
        return self.halted_from or self.at

    @property
    def exposed(self) -> bool:
        """Users may be on the canary: it is judged."""
        shifting = self.intent is not None and self.intent.act is Act.SHARE
        return self.where in CARRYING and (self.share.canary > 0 or shifting)
