"""How many lines never came, by HAProxy's own counting. Pure; time is given.

Each line carries its process and that process's counter of lines (%pid, %lc). The counter is read before it is raised,
so two threads may write the same number and leave the next one out; therefore lines are counted, not numbers: what is
missing up to a number is that number less how many lines came up to it. Threads also overtake each other, so the sum is
taken for a mark that is SETTLE_SECONDS old.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SETTLE_SECONDS = 2.0
# A number that is so much lower is no late line: another process got the same id.
OVERTAKEN_AT_MOST = 4096
# No downtime loses so many lines; a number that says so is not HAProxy's.
GAP_AT_MOST = 50_000_000
PROCESSES_AT_MOST = 256


@dataclass
class _Mark:
    number: int
    came: int
    at: float


@dataclass
class _Process:
    base: int
    highest: int
    came: int = 0
    lost: int = 0
    marks: list[_Mark] = field(default_factory=list)


@dataclass(frozen=True)
class Loss:
    """Lines of one process that did not come, all before `number`."""

    process: int
    lines: int
    number: int


def _before_first(lowest: int) -> int:
    """Counters start at 0 or at 1, depending on the version; a lost 0 is not noticed."""
    return min(lowest - 1, 0)


class Losses:
    """`known`: last number by process, as the files have it. None: there was nothing to read, nobody knows."""

    def __init__(self, known: Mapping[int, int] | None = None) -> None:
        self.total = 0
        self._knows = known is not None
        self._first_batch = True
        self._processes: OrderedDict[int, _Process] = OrderedDict()
        for process, number in (known or {}).items():
            self._processes[process] = _Process(base=number, highest=number)

    def batch(self, numbers: Iterable[tuple[int, int]], now: float) -> None:
        """Takes (process, number) of lines in the order in which they came; now in seconds, of a clock that never goes back."""
        fresh: dict[int, list[int]] = {}
        for process, number in numbers:
            if process in self._processes:
                self._came(process, number)
            else:
                fresh.setdefault(process, []).append(number)
        for process, seen in fresh.items():
            lowest = min(seen)
            # Nothing to compare with: a process that ran before this service did, and whose lines no file has.
            unknown = not self._knows and self._first_batch
            base = lowest - 1 if unknown or lowest > GAP_AT_MOST else _before_first(lowest)
            self._processes[process] = _Process(base=base, highest=base)
            for number in seen:
                self._came(process, number)
        if fresh:
            self._first_batch = False
        for state in self._processes.values():
            if state.highest > (state.marks[-1].number if state.marks else state.base) and (
                not state.marks or now - state.marks[-1].at >= SETTLE_SECONDS / 4
            ):
                state.marks.append(_Mark(state.highest, state.came, now))
        while len(self._processes) > PROCESSES_AT_MOST:
            self._processes.popitem(last=False)

    def settle(self, now: float) -> list[Loss]:
        """What is certain by now and was not said before."""
        found = []
        for process, state in self._processes.items():
            while state.marks and now - state.marks[0].at >= SETTLE_SECONDS:
                mark = state.marks.pop(0)
                missing = mark.number - state.base - mark.came
                if missing > state.lost:
                    found.append(Loss(process, missing - state.lost, mark.number))
                    self.total += missing - state.lost
                    state.lost = missing
        return found

    def _came(self, process: int, number: int) -> None:
        state = self._processes[process]
        if number > state.highest + GAP_AT_MOST:
            return
        if number < state.highest - OVERTAKEN_AT_MOST:
            base = _before_first(number) if number <= GAP_AT_MOST else number - 1
            state = self._processes[process] = _Process(base=base, highest=base)
        if number <= state.base:
            return
        self._processes.move_to_end(process)
        state.came += 1
        state.highest = max(state.highest, number)
        for mark in reversed(state.marks):
            if number > mark.number:
                break
            mark.came += 1
