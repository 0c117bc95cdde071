"""An engine as the probe sees it, look by look, with a clock of its own."""

from dataclasses import dataclass, field, replace
from typing import Any

from rackserve.health.decide import decide
from rackserve.health.figures import Figures
from rackserve.health.looks import Decision, Look, Memory, Page, Rules, State, Token, WarmUp

RULES = Rules(
    port=8001,
    stall_seconds=3.5,
    idle_seconds=5.0,
    token_deadline_seconds=10.0,
    restart_after_seconds=120.0,
    restarts_at_most=3,
    restart_window_seconds=3600.0,
)
WARM = WarmUp(token_seconds=0.05, step_seconds=0.5)
# A warm engine that moved a moment ago.
SERVING = Memory(state=State.SERVING, started=1.0, warm=WARM)


@dataclass
class Story:
    """`look` lets time pass and shows the engine once; a question that was asked is out until `answers` says otherwise."""

    memory: Memory = field(default_factory=Memory)
    rules: Rules = RULES
    now: float = 1000.0
    started: float | None = 1.0
    marks: tuple[float | None, ...] = (0.0, 0.0)
    token_out: float | None = None
    warm_up_out: float | None = None
    page_out: float | None = None
    waited: float = 50.0
    asked: list[float] = field(default_factory=list)
    said: list[Decision] = field(default_factory=list)

    def look(
        self,
        seconds: float = 1.0,
        page: Page = Page.READ,
        moved: bool = False,
        running: float = 0,
        waiting: float = 0,
        answers: int | None = None,
        warmed: WarmUp | None = None,
        waits: float = 0,
    ) -> Decision:
        """answers: the HTTP status of the question that is out; 200 has its token, and the counters have it too.

        waits: seconds that its core spent without a processor.
        """
        self.now += seconds
        self.waited += waits
        token = None
        if answers is not None and self.token_out is not None:
            token = Token(self.token_out, answers or None, answers == 200, "said so")
            self.token_out = None
        if warmed is not None:
            self.warm_up_out = None
        if moved or answers == 200 or warmed is not None:
            self.marks = (*[(mark or 0) + 1 for mark in self.marks],)
        if page is Page.NONE:
            self.page_out = self.now if self.page_out is None else self.page_out
        else:
            self.page_out = None
        figures = Figures(self.started, self.marks, running, waiting) if page is Page.READ else None
        look = Look(
            at=self.now,
            page=page,
            figures=figures,
            page_out=self.page_out,
            token=token,
            token_out=self.token_out,
            warm_up=warmed,
            warm_up_out=self.warm_up_out,
            waited={"7": self.waited, "8": 1.0},
        )
        decision = decide(self.memory, look, self.rules)
        self.memory = decision.memory
        if decision.ask:
            self.token_out = self.now
            self.asked.append(self.now)
        if decision.warm_up:
            self.warm_up_out = self.now
        if page is Page.REFUSED:
            self.token_out = self.warm_up_out = None
        self.said.append(decision)
        return decision

    def looks(self, count: int, **what: Any) -> Decision:
        for _ in range(count):
            decision = self.look(**what)
        return decision

    def until_down(self, limit_seconds: float, **what: Any) -> float:
        """Seconds from the look before until the engine is called down, looking as often as decisions ask for."""
        begin, pause = self.now, 0.5
        while self.now - begin <= limit_seconds:
            decision = self.look(seconds=pause, **what)
            if decision.word is False:
                return self.now - begin
            pause = decision.next_seconds
        raise AssertionError(f"not down within {limit_seconds} s; last: {self.said[-1]}")


def busy(**memory: Any) -> Story:
    """A warm engine at work for others."""
    story = Story(replace(SERVING, **memory))
    story.look(running=8)
    story.look(running=8, answers=200)
    story.look(running=8, moved=True)
    return story


def idle(**memory: Any) -> Story:
    """A warm engine that nobody but the probe asks."""
    story = Story(replace(SERVING, **memory))
    story.look()
    story.look(answers=200)
    story.look()
    return story
