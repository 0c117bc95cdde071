"""A whole run on the real HAProxy, with users on it: the real controller, its journal and the world, but for Ansible and the reference
prompts: an engine's new release is a line in a file here."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rackserve.canary.moves.observe import observe
from rackserve.canary.moves.split import Split
from rackserve.canary.quality.read import read
from rackserve.canary.run.controller import Controller, moment, taken_up
from rackserve.canary.run.goto import begun
from rackserve.canary.run.journal import Journal
from rackserve.canary.run.plan import Plan, Wish, plan_of
from rackserve.canary.run.record import Record, State
from rackserve.canary.run.world import DONE, Outcome
from rackserve.canary.world.rack import Rack
from rackserve.canary.world.site import Site
from rackserve.definition.models.canary import Canary

from gateway.balancer import Balancer
from gateway.plan import NODE
from gateway.stub import Seen, Stub
from gateway.test_canary_world import page as page
from gateway.test_canary_world import runs
from gateway.test_canary_world import site as site
from gateway.test_moves import Load
from gateway.test_moves import service as service
from gateway.test_moves import split as split
from gateway.test_runtime_client import runtime as runtime
from gateway.test_smoke import answers
from gateway.test_split import ENGINES
from gateway.test_split import tried_engines as tried_engines

pytestmark = pytest.mark.slow
LIMIT_SECONDS = 600.0


class Played(Rack):
    """`starts`: what every engine was started on, in order."""

    def __init__(self, site: Site, plan: Plan, told: list[str], bad: bool) -> None:
        super().__init__(site, plan, read(), told.append)
        self.site, self.bad, self.starts = site, bad, list[tuple[str, str]]()

    def install(self, engine: str, release: str) -> Outcome:
        return DONE

    def start(self, engine: str, release: str) -> Outcome:
        if refusal := self._traffic.out_of_service(engine):
            return refusal
        runs(Path(self.site.starts), engine, release)
        self.starts.append((engine, release))
        return DONE

    def quality(self, canary: str, baseline: str) -> Outcome:
        return DONE


def script(engine: str, directory: Path, bad: bool) -> Any:
    """As the engine's release answers: a bad new one says nothing to every second request of users."""
    good, count = answers(), iter(range(1_000_000))

    def said(seen: Seen) -> list[Any]:
        if "messages" not in seen.body:
            return [{"choices": [{"text": "x"}], "usage": {"completion_tokens": 1}}]
        release = json.loads((directory / engine / "started.json").read_text())["release"]
        if bad and release == "stub-2" and "stub" in seen.body and next(count) % 2:
            usage = {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}
            return [{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}], "usage": usage}]
        return good(seen)

    return said


@pytest.fixture
def plan_(site: Site) -> Plan:
    canary = Canary(
        steps_percent=(20,), settle_seconds=1, observe_seconds=3, minimum_requests=30, watchdog_seconds=60
    )  # fmt: skip
    wish = Wish(
        run=f"run-{time.time_ns()}", pool="tried", release="stub-2", before="stub-1", by="ann@desk", since=time.time(),
        engines=ENGINES, nodes=dict.fromkeys(ENGINES, "host"), fewest=1,
    )  # fmt: skip
    return plan_of(wish, canary)


class Died(Exception):
    """The controller's process, here."""


def driven(world: Played, plan: Plan, directory: Path, dies_at: State | None = None) -> Record:
    """To its end. `dies_at`: the process ends in this state, and another one takes the run up."""
    journal, record = Journal(directory / "run"), begun(moment())
    journal.create(plan, record)
    ends = time.monotonic() + LIMIT_SECONDS
    controllers: list[Controller] = []

    def sleep(seconds: float) -> None:
        now = controllers[-1].record
        assert time.monotonic() < ends, now
        if len(controllers) == 1 and now.at is dies_at:
            raise Died
        time.sleep(min(seconds, 0.3))

    controllers.append(Controller(plan, record, journal, world, print, sleep=sleep))
    try:
        return controllers[0].run()
    except Died:
        again = Played(world.site, plan, [], bad=world.bad)
        again.starts = world.starts
        controllers.append(taken_up(Journal(directory / "run"), again, print, sleep=sleep))
        return controllers[1].run()


@pytest.fixture
def users(service: Balancer) -> Iterator[Load]:
    with Load(service.url, clients=4) as load:
        yield load


def test_a_good_release_gets_the_whole_pool_and_no_user_notices_though_its_controller_dies(
    service: Balancer, site: Site, split: Split, plan_: Plan, users: Load, tried_engines: Stub, tmp_path: Path
) -> None:
    for name in ENGINES:
        tried_engines.engines[name].script = script(name, tmp_path, bad=False)
    world = Played(site, plan_, [], bad=False)
    record = driven(world, plan_, tmp_path, dies_at=State.STEP)
    assert record.at is State.DONE, record.reason
    assert users.bad == []
    assert [one for one, _ in world.starts] == [plan_.canary, *plan_.order]
    place = observe(split).places[NODE]
    assert (place.live, place.file, place.run) == (None, None, None)
    assert {name: place.tracks_of(name) for name in ENGINES} == dict.fromkeys(ENGINES, ("stable",))
    assert {one.release for one in world.observe().engines.values()} == {"stub-2"}


def test_a_bad_release_is_taken_back_and_every_engine_is_as_it_was(
    service: Balancer, site: Site, split: Split, plan_: Plan, users: Load, tried_engines: Stub, tmp_path: Path
) -> None:
    for name in ENGINES:
        tried_engines.engines[name].script = script(name, tmp_path, bad=True)
    world = Played(site, plan_, [], bad=True)
    record = driven(world, plan_, tmp_path)
    assert (record.at, record.over) == (State.ROLLED_BACK, True)
    assert "answers without text" in record.reason, record.reason
    place = observe(split).places[NODE]
    assert (place.live, place.file, place.run) == (None, None, None)
    assert {name: place.tracks_of(name) for name in ENGINES} == dict.fromkeys(ENGINES, ("stable",))
    assert {one.release for one in world.observe().engines.values()} == {"stub-1"}
