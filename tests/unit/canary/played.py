"""A pool whose balancers, engines, users and time are played: the real controller runs on it, and may be killed at any point."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackserve.canary.judge.counts import METRICS, Metric
from rackserve.canary.judge.verdict import Verdict
from rackserve.canary.run.controller import Controller, taken_up
from rackserve.canary.run.goto import begun
from rackserve.canary.run.journal import Journal, Write, write_whole
from rackserve.canary.run.plan import Plan, Wish, plan_of
from rackserve.canary.run.record import Moment, Record
from rackserve.canary.run.world import (
    DONE,
    NOTHING,
    BalancerSeen,
    Beat,
    Claim,
    Ended,
    EngineSeen,
    Event,
    Outcome,
    Seen,
    Share,
    Source,
    Track,
)
from rackserve.definition.models.canary import Canary

OLD, NEW = "small-1", "small-2"
DOING = Outcome(Ended.DOING, "on its way")
TRACKS: tuple[Track, ...] = ("stable", "baseline", "canary")


class Killed(BaseException):
    """The process is gone: nothing of it goes on, not even what tidies up."""


@dataclass(frozen=True)
class Release:
    """How the new release behaves. `rates`: shares of bad answers. `dies_at`: the canary's share in thousandths from which its
    engine is dead. `broken`: engines on which it does not start. `wrong`: what a check, smoke or quality says of it."""

    rates: dict[Metric, float] = field(default_factory=dict)
    dies_at: int = 1001
    broken: frozenset[str] = frozenset()
    wrong: dict[str, str] = field(default_factory=dict)


@dataclass
class Balancer:
    live: Share = NOTHING
    file: Share = NOTHING
    tracks: dict[str, Track | None] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    claim: Claim | None = None
    beaten: float = 0.0
    silent: float = 1e9
    fall_back: bool = True
    down: bool = False
    stopped: bool = False
    epoch: int = 0
    sums: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass
class Engine:
    release: str | None = OLD
    starts: int = 0
    ready: dict[str, float] = field(default_factory=dict)


class Played:
    """`requests`: a second, of both balancers together. `hook`: called before and after whatever a kill may separate."""

    def __init__(self, plan: Plan, release: Release | None = None, requests: float = 200) -> None:
        self.plan, self.release, self.requests = plan, release or Release(), requests
        self.now, self.boot, self.wall = 1000.0, "boot-1", 5000.0
        self.balancers = {name: Balancer(tracks=dict.fromkeys(plan.engines, "stable")) for name in ("lb1", "lb2")}
        self.engines = {name: Engine() for name in plan.engines}
        self.rates: dict[Metric, float] = {"slow_ttft": 0.02, "slow_inter_token": 0.02}
        self.no_figures = ""
        self.events: list[Event] = []
        self.highest = 0
        self.unserved = self.hurt = self.crowd = 0.0
        self.hook: Callable[[str], None] = lambda _: None
        self.violations: list[str] = []
        self.may_rise = True
        self.stopped = ""
        self.edit: Callable[[Played], None] = lambda _: None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Played":
        found = copy.copy(self)
        found.balancers = {name: _cloned(one) for name, one in self.balancers.items()}
        found.engines = {name: dataclasses.replace(one, ready=dict(one.ready)) for name, one in self.engines.items()}
        found.events, found.violations, found.hook = list(self.events), list(self.violations), lambda _: None
        return found

    # Time and users

    def clock(self) -> Moment:
        return Moment(boot=self.boot, seconds=self.now, wall=self.wall + self.now)

    def sleep(self, seconds: float) -> None:
        """A look every five seconds is enough here."""
        self.edit(self)
        self.pass_(max(seconds, 5.0))

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        for one in self.balancers.values():
            if one.claim and one.fall_back and self.now - one.beaten > one.silent:
                one.live, one.file, one.stopped = NOTHING, NOTHING, True
            self._use(one, seconds * self.requests / len(self.balancers))

    def serving(self, one: Balancer, track: Track) -> list[str]:
        return [
            name
            for name, at in one.tracks.items()
            if at == track and name not in one.drained and self.engines[name].release is not None
        ]

    def _use(self, one: Balancer, number: float) -> None:
        parts = {"canary": one.live.canary, "baseline": one.live.baseline}
        parts["stable"] = 1000 - sum(parts.values())
        for track in TRACKS:
            requests = number * parts[track] / 1000
            if not requests:
                continue
            if track == "canary" and one.live.canary >= self.release.dies_at:
                self.engines[self.plan.canary] = Engine(release=None)
            engines = self.serving(one, track)
            missed = not engines and track != "stable"
            served = engines or self.serving(one, "stable")
            if not served:
                self.unserved += requests
            self.crowd = max(self.crowd, parts[track] / 1000 / max(len(engines), 1)) if engines else self.crowd
            self._count(one, track, requests, missed, served)

    def _count(self, one: Balancer, track: Track, requests: float, missed: bool, served: list[str]) -> None:
        new = sum(self.engines[name].release == NEW for name in served) / len(served) if served else 0.0
        self.hurt += requests * sum(
            name in self.release.broken and self.engines[name].release == NEW for name in served
        )
        one.sums[track, ""] = one.sums.get((track, ""), 0.0) + requests
        for metric in METRICS:
            rate = self.rates.get(metric, 0.0) + new * self.release.rates.get(metric, 0.0)
            bad = 1.0 if missed and metric == "errors" else min(rate, 1.0)
            one.sums[track, metric] = one.sums.get((track, metric), 0.0) + requests * bad

    # What the controller asks

    def observe(self) -> Seen:
        reachable = {name: one for name, one in self.balancers.items() if not one.down}
        down = {name: "no route to host" for name in self.balancers if name not in reachable}
        up = frozenset(name for name, one in self.engines.items() if one.release is not None)
        return Seen(
            {
                name: BalancerSeen(one.live, one.file, dict(one.tracks), frozenset(one.drained), up)
                for name, one in reachable.items()
            },
            {name: EngineSeen(one.release, f"{name}-{one.starts}") for name, one in self.engines.items()},
            down,
            None if down or self.no_figures else {name: self._source(name, one) for name, one in reachable.items()},
            self.no_figures or "a balancer is missing",
        )

    def _source(self, name: str, one: Balancer) -> Source:
        def sums(track: Track, metric: str) -> int:
            return int(one.sums.get((track, metric), 0.0))

        cells: dict[Metric, dict[Track, dict[str, tuple[int, int]]]] = {
            metric: {track: {"": (sums(track, metric), sums(track, ""))} for track in TRACKS} for metric in METRICS
        }
        return Source(epoch=f"{name}-{one.epoch}", requests={track: sums(track, "") for track in TRACKS}, cells=cells)

    def _each(self, do: Callable[[Balancer], None], what: str) -> Outcome:
        missed = []
        for name, one in self.balancers.items():
            if one.down:
                missed.append(name)
                continue
            self.hook(f"{what} at {name}")
            do(one)
        self.hook(f"{what} done")
        return Outcome(Ended.UNDONE, f"{', '.join(missed)} could not be reached") if missed else DONE

    def claim(self, claim: Claim) -> Outcome:
        other = next((one.claim for one in self.balancers.values() if one.claim and one.claim.run != claim.run), None)
        if other:
            said = f"{other.pool} is taken by {other.by} for {other.release}, since {other.since:g}, run {other.run}"
            return Outcome(Ended.FAILED, said)

        def one(balancer: Balancer) -> None:
            balancer.claim, balancer.beaten, balancer.stopped = claim, self.now, False

        return self._each(one, "claim")

    def unclaim(self, claim: Claim) -> Outcome:
        def one(balancer: Balancer) -> None:
            balancer.claim = None if balancer.claim and balancer.claim.run == claim.run else balancer.claim

        return self._each(one, "unclaim")

    def beat(self, claim: Claim, silent_seconds: float, fall_back: bool) -> Beat:
        for one in self.balancers.values():
            if one.claim and one.claim.run != claim.run:
                return Beat(taken=f"run {one.claim.run} by {one.claim.by} has it")
            if one.claim and not one.down:
                one.beaten, one.silent, one.fall_back = self.now, silent_seconds, fall_back
        return Beat(stopped=self.stopped)

    def set_share(self, share: Share) -> Outcome:
        if not self.may_rise and any(
            share.canary > min(one.live.canary, one.file.canary) for one in self.balancers.values() if not one.down
        ):
            self.violations.append(f"the share rises to {share} though it must not")

        refusing = [
            name
            for name, one in self.balancers.items()
            if one.stopped and share.canary > one.live.canary and not one.down
        ]
        if refusing:
            return Outcome(
                Ended.UNDONE, f"{refusing[0]}: the run was silent, and its watchdog has ended it: begin it again"
            )

        def one(balancer: Balancer) -> None:
            balancer.file = share
            self.hook("file written, process not told")
            balancer.live = share

        outcome = self._each(one, f"share {share}")
        self.highest = max(self.highest, share.canary)
        return outcome

    def drain(self, engine: str) -> Outcome:
        if all(engine in one.drained for one in self.balancers.values()):
            return DONE if self.now >= self.engines[engine].ready.get("drain", 0) else DOING
        self.engines[engine].ready["drain"] = self.now + 4
        outcome = self._each(lambda one: one.drained.add(engine), f"drain {engine}")
        return outcome if outcome.kind is Ended.UNDONE else DOING

    def undrain(self, engine: str) -> Outcome:
        if self.engines[engine].release is None:
            return Outcome(Ended.FAILED, "its checks do not pass")
        return self._each(lambda one: one.drained.discard(engine), f"undrain {engine}")

    def _out(self, engine: str) -> bool:
        return all(engine in one.drained for one in self.balancers.values() if not one.down)

    def move(self, engine: str, track: Track) -> Outcome:
        if not self._out(engine) and any(one.tracks[engine] != track for one in self.balancers.values()):
            self.violations.append(f"{engine} moves to {track} though it serves")
        return self._each(lambda one: one.tracks.__setitem__(engine, track), f"move {engine} {track}")

    def install(self, engine: str, release: str) -> Outcome:
        self.hook(f"install {engine}")
        return DONE

    def start(self, engine: str, release: str) -> Outcome:
        one = self.engines[engine]
        if one.release == release:
            return DONE
        if not self._out(engine):
            self.violations.append(f"{engine} is started though it serves")
        self.hook(f"start {engine}")
        if "start" not in one.ready:
            one.ready["start"], one.release = self.now + 4, None
            return DOING
        if self.now < one.ready["start"]:
            return DOING
        del one.ready["start"]
        if release == NEW and engine in self.release.broken:
            return Outcome(Ended.FAILED, "it ended with: out of memory")
        one.release, one.starts = release, one.starts + 1
        self.hook(f"started {engine}")
        return DONE

    def check(self, engine: str, release: str) -> Outcome:
        return self._wrong("check") if release == NEW else DONE

    def smoke(self, engine: str) -> Outcome:
        self.hook("smoke")
        outcome = self._wrong("smoke")
        # From here on the way is open as if it had been judged.
        self.may_rise = self.may_rise or outcome is DONE
        return outcome

    def quality(self, canary: str, baseline: str) -> Outcome:
        return self._wrong("quality")

    def _wrong(self, what: str) -> Outcome:
        return Outcome(Ended.FAILED, self.release.wrong[what]) if what in self.release.wrong else DONE

    def tell(self, event: Event) -> None:
        self.events.append(event)

    # What tests ask

    def state(self) -> str:
        """What a process that dies leaves here, users and time aside."""
        balancers = [
            (one.live, one.file, sorted(one.tracks.items()), sorted(one.drained), one.claim)
            for one in self.balancers.values()
        ]
        return repr((balancers, self.engines))

    def faults(self, release: str) -> list[str]:
        """What is not as after a run that is over, with every engine on this release."""
        found = list(self.violations)
        for name, one in self.balancers.items():
            if (one.live, one.file) != (NOTHING, NOTHING):
                found.append(f"{name} gives {one.live}, on disk {one.file}")
            found += [f"{engine} is in {track} at {name}" for engine, track in one.tracks.items() if track != "stable"]
            found += [f"{engine} is drained at {name}" for engine in one.drained]
            found += [f"{name} is claimed by {one.claim.run}"] if one.claim else []
        found += [f"{name} runs {one.release}" for name, one in self.engines.items() if one.release != release]
        if self.unserved:
            found.append(f"{self.unserved:g} requests met no engine")
        if self.hurt:
            found.append(f"{self.hurt:g} requests went to a broken engine")
        return found

    @property
    def share(self) -> int:
        """What lb1 gives the canary, in thousandths."""
        return self.balancers["lb1"].live.canary

    def told(self, kind: str) -> list[str]:
        return [event.said for event in self.events if event.kind == kind]


def _cloned(one: Balancer) -> Balancer:
    return dataclasses.replace(one, tracks=dict(one.tracks), drained=set(one.drained), sums=dict(one.sums))


class Disk:
    """Files that are there whole, until a hook says otherwise. `full`: nothing can be written any more."""

    def __init__(self, files: dict[Path, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.full = False
        self.hook: Callable[[str], None] = lambda _: None

    def write(self, path: Path, content: bytes) -> None:
        self.hook(f"before {path.parent.name}/{path.name}")
        if self.full:
            raise OSError(28, "No space left on device")
        self.files[path] = content
        self.hook(f"after {path.parent.name}/{path.name}")

    def lay(self, source: Path, target: Path) -> None:
        """The plan and the two newest entries, as files in another directory."""
        (target / "entries").mkdir(parents=True)
        newest = sorted(path for path in self.files if path.parent == source / "entries")[-2:]
        for path in (source / "plan.json", *newest):
            (target / path.relative_to(source)).write_bytes(self.files[path])


class Watched(Controller):
    """Opens the way up in the played world once it has judged and found nothing wrong."""

    def _judged(self, seen: Seen, now: Moment) -> tuple[Record, Verdict]:
        record, verdict = super()._judged(seen, now)
        if verdict.outcome == "pass" and isinstance(self._world, Played):
            self._world.may_rise = True
        return record, verdict


def canary_of(**more: Any) -> Canary:
    fields: dict[str, Any] = {
        "steps_percent": (5.0, 10.0),
        "settle_seconds": 5.0,
        "observe_seconds": 10.0,
        "observe_limit_seconds": 600.0,
        "minimum_requests": 100,
        "watchdog_seconds": 30.0,
    }
    return Canary(**{**fields, **more})


def plan(engines: int = 4, fewest: int = 1, release: str = NEW, **more: Any) -> Plan:
    names = tuple(f"e{number}" for number in range(1, engines + 1))
    nodes = {name: f"gpu{number}" for number, name in enumerate(names, 1)}
    wish = Wish("r1", "small", release, OLD, "ann@desk", 1.0, names, nodes, fewest, trial=release == OLD)
    return plan_of(wish, canary_of(**more))


def on_disk(path: Path, content: bytes) -> None:
    """As the real one, but the disk need not have it yet."""
    write_whole(path, content, lambda handle: None)


def start(world: Played, directory: Path, write: Write | None = None) -> Watched:
    """A run that has done nothing yet. Its journal is kept in memory, unless `write` says otherwise."""
    journal = Journal(directory, write or Disk().write)
    record = begun(world.clock())
    journal.create(world.plan, record)
    return Watched(world.plan, record, journal, world, lambda _: None, world.clock, world.sleep)


def again(world: Played, directory: Path, write: Write | None = None) -> Watched:
    """Another process takes the run up, from files."""
    journal = Journal(directory, write or Disk().write)
    one = taken_up(journal, world, lambda _: None, world.clock, world.sleep)
    return Watched(one.plan, one.record, journal, world, lambda _: None, world.clock, world.sleep)


def to_the_end(controller: Controller, world: Played, seconds: float = 5000) -> Record:
    """Until it is over, or nothing is to be expected any more."""
    ends = world.now + seconds
    while not controller._ended() and world.now < ends:
        if not controller.tick():
            world.sleep(1)
    return controller.record


def until(controller: Controller, world: Played, reached: Callable[[], bool], seconds: float = 3000) -> None:
    """Ticks until it is so; that it never comes is a failure."""
    ends = world.now + seconds
    while not reached():
        assert world.now < ends, controller.record
        if not controller.tick():
            world.sleep(1)
