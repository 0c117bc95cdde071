"""What is seen of an engine, remembered and decided. Times in seconds of a clock that never goes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from rackserve.health.figures import Figures


class State(Enum):
    """What the probe knows of an engine."""

    NEW = "new"  # not seen moving yet; nothing is said of it
    ABSENT = "absent"  # nobody listens on its port
    STARTING = "starting"  # listens again, and is not warm yet
    SERVING = "serving"
    FAILING = "failing"  # answers with errors
    HUNG = "hung"


class Page(Enum):
    """What came of reading the page of metrics."""

    NONE = "none"  # still out, or not read this time
    READ = "read"
    REFUSED = "refused"
    BROKEN = "broken"


@dataclass(frozen=True)
class Rules:
    """What the definition says of an engine."""

    port: int
    stall_seconds: float
    idle_seconds: float
    token_deadline_seconds: float
    restart_after_seconds: float
    restarts_at_most: int
    restart_window_seconds: float


@dataclass(frozen=True)
class Token:
    """A question for one token that is over. status: None without an answer."""

    asked: float
    status: int | None
    came: bool
    detail: str = ""


@dataclass(frozen=True)
class WarmUp:
    """Seconds that one token and the longest step took. step_seconds: None where it could not be measured."""

    token_seconds: float
    step_seconds: float | None


@dataclass(frozen=True)
class Look:
    """What there is at one moment. The *_out: since when something is out without an answer."""

    at: float
    page: Page = Page.NONE
    figures: Figures | None = None
    page_out: float | None = None
    token: Token | None = None
    token_out: float | None = None
    warm_up: WarmUp | None = None
    warm_up_out: float | None = None
    # Seconds that each process of the engine core, and the probe, have ever waited for a processor.
    waited: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """What is remembered of an engine from one look to the next."""

    state: State = State.NEW
    since: float = 0.0
    # Of its process, as the page says it; kept over a restart of the probe, unlike the figures.
    started: float | None = None
    figures: Figures | None = None
    moved: float | None = None
    # The last movement that was not our own doing.
    traffic: float | None = None
    heard: float | None = None
    # What its processes had waited for a processor by then.
    waited: Mapping[str, float] = field(default_factory=dict)
    # Something of ours may have moved it since its last page.
    ours: bool = False
    # Its process began while the probe watched: until it is warm it is out.
    fresh: bool = False
    broken: int = 0
    failed: int = 0
    # Why it cannot be asked: then only its own figures tell.
    mute: str = ""
    # When it last said that it has no room for a question.
    busy: float | None = None
    warm: WarmUp | None = None
    restarts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Decision:
    """word: True up, False down, None nothing. next_seconds: when to look again at the latest."""

    memory: Memory
    word: bool | None
    reason: str
    ask: bool = False
    warm_up: bool = False
    restart: bool = False
    restart_limit: bool = False
    next_seconds: float = 1.0
