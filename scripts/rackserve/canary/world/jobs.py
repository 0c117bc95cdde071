"""What takes longer than a look, beside the controller's loop: asked again until it has an outcome."""

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from rackserve.canary.run.world import Ended, Outcome
from rackserve.fleet.errors import FleetError

# What could not be done is not begun anew with every look.
_AGAIN_SECONDS = 15.0
UNKNOWN_EXIT = 3


@dataclass
class _Job:
    began: float
    outcome: Outcome | None = None
    ended: float = 0.0
    said: str = ""


@dataclass
class Jobs:
    """One thread for each key. They do not keep the process from ending: whoever goes on begins them again."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[Hashable, _Job] = field(default_factory=dict)
    _undone_since: dict[Hashable, float] = field(default_factory=dict)

    def running(self, key: Hashable) -> bool:
        job = self._known.get(key)
        return job is not None and job.outcome is None

    def known(self, key: Hashable) -> bool:
        """It runs, or has an outcome that nobody has asked for yet."""
        return key in self._known

    def ask(
        self,
        key: Hashable,
        work: Callable[[Callable[[str], None]], Outcome],
        seconds: float,
        what: str,
        patience_seconds: float = math.inf,
    ) -> Outcome:
        """DOING while it runs; its outcome once; FAILED after `seconds`, or where it was UNDONE for longer than the patience.
        `work` gets a way to say how far it is."""
        job = self._known.get(key)
        if job is None:
            job = self._known[key] = _Job(self.clock(), said=what)
            threading.Thread(target=self._run, args=(job, work), name=what, daemon=True).start()
            return Outcome(Ended.DOING, what)
        if job.outcome is None:
            if self.clock() - job.began <= seconds:
                return Outcome(Ended.DOING, job.said)
            self._forget(key)
            return Outcome(Ended.FAILED, f"{what}: not within {seconds:g} s")
        if job.outcome.kind is not Ended.UNDONE:
            self._forget(key)
            return job.outcome
        since = self._undone_since.setdefault(key, job.ended)
        if self.clock() - since > patience_seconds:
            self._forget(key)
            return Outcome(Ended.FAILED, f"{job.outcome.reason} (for {patience_seconds:g} s)")
        if self.clock() - job.ended >= _AGAIN_SECONDS:
            del self._known[key]
        return job.outcome

    def _forget(self, key: Hashable) -> None:
        self._known.pop(key, None)
        self._undone_since.pop(key, None)

    def _run(self, job: _Job, work: Callable[[Callable[[str], None]], Outcome]) -> None:
        def say(text: str) -> None:
            job.said = text

        try:
            outcome = work(say)
        except FleetError as error:
            outcome = of_error(error)
        # Nobody else would hear of it, and the run would wait for ever.
        except Exception as error:
            outcome = Outcome(Ended.FAILED, f"{type(error).__name__}: {error}")
        job.ended = self.clock()
        job.outcome = outcome


def of_error(error: FleetError) -> Outcome:
    """Who cannot be asked may be asked again; who refuses, or says nonsense, is for a person."""
    return Outcome(Ended.UNDONE if error.exit_code == UNKNOWN_EXIT else Ended.FAILED, str(error))
