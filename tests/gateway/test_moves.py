"""What a canary's controller and scripts/rollback do to balancers, on the real HAProxy: shares, engines from track to track, the
watchdog. A second balancer, where there is one, cannot be reached."""

import asyncio
import dataclasses
import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from rackserve.canary.moves import engines as tracks
from rackserve.canary.moves import runs, shares
from rackserve.canary.moves.card import Balancer as Station
from rackserve.canary.moves.card import Card, card_path, digest_of, keep
from rackserve.canary.moves.decide import Kind, Wrong, differences
from rackserve.canary.moves.observe import observe
from rackserve.canary.moves.share import Share
from rackserve.canary.moves.shares import Word
from rackserve.canary.moves.split import Split
from rackserve.fleet.paths import Paths
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import CommandHost

from gateway.asking import CHAT, CONTEXT, Stream, chat, stream
from gateway.balancer import CONFIGURATION, REPOSITORY, RUNTIME, STATE, Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, NODE, default_lanes, default_pools, plan, pool
from gateway.stub import Stub
from gateway.test_runtime_client import runtime as runtime
from gateway.test_split import ENGINES
from gateway.test_split import tried_engines as tried_engines

ROOT, RUNS, LIBRARY, SAVER = f"{CONFIGURATION}-moves", f"{STATE}/canary", f"{STATE}/library", f"{STATE}/saver.py"
PATHS = Paths(
    *(f"{RUNTIME}/admin.sock", f"{RUNTIME}/master.sock", ROOT),
    saver=(SAVER, f"{RUNTIME}/admin.sock", f"{STATE}/server-state", f"{CONFIGURATION}/haproxy.cfg"),
    runs=RUNS,
)
HALF = Share(300, 300)
ANN = Word("ann@desk", "test")


@pytest.fixture(scope="module")
def service(restored: Balancer, tried_engines: Stub, stub_address: str) -> Iterator[Balancer]:
    """A pool `tried` of three engines, in which a stream may last as long as a test on a busy machine."""
    lanes = default_lanes()
    lanes["interactive"]["generation_timeout_seconds"] = 300
    pools = default_pools() | {"tried": pool(["tried"], list(ENGINES), slots=64, canary={})}
    pools["tried"]["timeouts"]["generation_seconds"] = 300
    restored.reload(candidate(plan(stub_address, FIRST_PORT, pools, lanes)))
    restored.node.run(f"cat > {SAVER}", (REPOSITORY / "roles/haproxy/files/save_server_state.py").read_bytes())
    yield restored
    restored.node.run(f"rm -rf {ROOT} {RUNS} {LIBRARY} {SAVER} {STATE}/server-state")


@pytest.fixture
def split(service: Balancer, tried_engines: Stub, runtime: Runtime) -> Split:
    """tried-1 is stable, tried-2 baseline, tried-3 canary; nothing is shared, nothing runs, nothing was ever recorded."""
    tried_engines.reset()
    eventually(service.all_up, "every engine in service")
    service.node.run(
        f"rm -rf {ROOT} {RUNS} {STATE}/server-state; mkdir -p {ROOT} && ln -s {CONFIGURATION} {ROOT}/current && "
        f": > {CONFIGURATION}/maps/shares.map"
    )
    place(service, "clear map maps/shares.map", tried_1="stable", tried_2="baseline", tried_3="canary")
    return Split("tried", ENGINES, [runtime.host], {NODE: PATHS})


def place(balancer: Balancer, *before: str, **where: str) -> None:
    commands = [
        f"set server pool-tried-{track}/{name.replace('_', '-')} state {'ready' if own == track else 'maint'}"
        for name, own in where.items()
        for track in ("stable", "baseline", "canary")
    ]
    balancer.runtime("; ".join([*before, *commands]))


def lame(split: Split) -> Split:
    """With a second balancer at which nobody listens."""
    (host,) = split.balancers
    assert isinstance(host, CommandHost)
    dead = CommandHost("gw2", host.address, (*host.command[:1], "-p", "1", "-o", "ControlPath=none", *host.command[1:]))
    return dataclasses.replace(split, balancers=[host, dead], paths={**split.paths, "gw2": PATHS})


@pytest.fixture
def run(split: Split) -> str:
    """A run that has begun, with a share for the canary."""
    name = f"run-{secrets.token_hex(4)}"
    assert runs.begin(split, name, "ann@desk", 60).well
    given = shares.give(split, HALF, name, "ann@desk")
    assert given.complete, given
    return name


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool


def until(check: Any, what: str) -> None:
    eventually(check, what, seconds=60)


def journal(balancer: Balancer, text: str) -> list[str]:
    lines = balancer.node.run("journalctl -q -t rackserve-canary -o cat -n 200").splitlines()
    return [line for line in lines if text in line]


def reload(balancer: Balancer, runtime: Runtime) -> None:
    process = runtime.information()["Pid"]
    balancer.signal_reload()
    until(lambda: runtime.information()["Pid"] != process, "another process")
    until(balancer.all_up, "every engine in service")


def restart(balancer: Balancer) -> None:
    balancer.node.run(f"systemctl restart {balancer.unit}")
    until(balancer.all_up, "every engine in service")


def test_a_share_stands_in_the_file_and_live_and_is_told_to_the_journal(
    service: Balancer, split: Split, run: str
) -> None:
    seen = observe(split)
    assert (seen.places[NODE].live, seen.places[NODE].file) == ("300/300", "300/300")
    assert differences(seen, HALF) == ()
    record = seen.places[NODE].run
    assert record is not None
    assert record.run == run
    assert shares.give(split, Share(50, 50), run, "ann@desk").complete
    assert observe(split).shares == {NODE: Share(50, 50)}
    assert journal(service, run) == [
        f"pool tried: share 0 -> 300/300; by ann@desk: run {run}",
        f"pool tried: share 300/300 -> 50/50; by ann@desk: run {run}",
    ]


def test_shares_and_tracks_survive_a_reload_and_a_restart(
    service: Balancer, split: Split, run: str, runtime: Runtime
) -> None:
    moved = tracks.move(split, "tried-2", "canary", 0)
    assert (moved.kind, moved.unsaved) == (Kind.DONE, {}), moved
    for how in ("reload", "restart"):
        if how == "reload":
            reload(service, runtime)
        else:
            restart(service)
        seen = observe(split)
        assert differences(seen, HALF) == ()
        assert [seen.places[NODE].tracks_of(name) for name in ENGINES] == [("stable",), ("canary",), ("canary",)]


def test_where_stable_has_no_engine_a_rollback_is_refused_unless_forced(
    service: Balancer, split: Split, run: str
) -> None:
    place(service, tried_1="canary")
    back = shares.take_back(split, ANN).done[NODE]
    assert (back.stable, back.undone) == ((0, 3), (back.refused,))
    assert observe(split).shares == {NODE: HALF}
    assert runs.beat(split, run).well, "its run goes on"
    assert not shares.take_back(split, dataclasses.replace(ANN, force=True)).done[NODE].undone
    assert observe(split).shares == {NODE: Share(0, 0)}


def test_a_hand_in_the_map_is_seen_and_named(service: Balancer, split: Split, run: str) -> None:
    service.runtime("set map maps/shares.map tried 900/200")
    found = differences(observe(split), HALF)
    assert {one.kind for one in found} == {Wrong.NO_SHARE, Wrong.FILE}
    assert "90 % and 20 % are more than all requests" in found[0].text
    service.runtime("del map maps/shares.map tried")
    assert {one.kind for one in differences(observe(split), HALF)} == {Wrong.CHANGED, Wrong.FILE}
    service.runtime("set server pool-tried-stable/tried-3 state ready")
    assert Wrong.TRACK in {one.kind for one in differences(observe(split))}


def test_where_one_balancer_cannot_be_reached_nothing_is_given_and_all_else_is_taken_back(
    split: Split, run: str
) -> None:
    both = lame(split)
    given = shares.give(both, Share(50, 50), run)
    assert (given.live, list(given.failed), dict(given.left)) == ((), ["gw2"], {})
    seen = observe(both)
    assert (seen.places[NODE].live, seen.places[NODE].file) == ("300/300", "300/300"), "as before"
    assert [one.kind for one in differences(seen, HALF)] == [Wrong.UNREACHABLE]
    outcome = shares.take_back(both, ANN)
    assert (list(outcome.done), list(outcome.failed), outcome.exit_code) == ([NODE], ["gw2"], 3)
    assert not outcome.done[NODE].undone
    assert observe(split).shares == {NODE: Share(0, 0)}


def test_after_a_rollback_nobody_gives_a_share_for_the_run(split: Split, run: str) -> None:
    back = shares.take_back(split, ANN).done[NODE]
    assert (back.live_before, back.file_before, back.run) == ("300/300", "300/300", run)
    given = shares.give(split, HALF, run)
    assert "ann@desk has stopped it" in str(given.failed[NODE])
    assert runs.beat(split, run).stopped[NODE].by == "ann@desk"
    assert observe(split).shares == {NODE: Share(0, 0)}


class Load:
    """Clients that ask without a pause, each after its answer; `tracks` in the order of answers."""

    def __init__(self, url: str, clients: int = 12) -> None:
        self._url, self._clients, self._over = url, clients, threading.Event()
        self.tracks: list[str] = []
        self.bad: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    async def _all(self) -> None:
        headers = {"authorization": f"Bearer {KEYS['demo']}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=30, verify=CONTEXT) as client:
            await asyncio.gather(*(self._one(client) for _ in range(self._clients)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        while not self._over.is_set():
            answer = await client.post(CHAT, json=chat("tried", ttft=0.005))
            if answer.status_code != 200:
                self.bad.append(answer.text)
            self.tracks.append(answer.headers.get("x-track", ""))


def test_under_load_no_new_request_reaches_the_canary_after_a_rollback(
    service: Balancer, split: Split, run: str, tried_engines: Stub
) -> None:
    with Load(service.url) as load:
        until(lambda: load.tracks.count("canary") > 50, "the canary has its share")
        began = time.monotonic()
        back = shares.take_back(split, ANN)
        ended = time.monotonic()
        before = len(load.tracks)
        until(lambda: len(load.tracks) > before + 300, "three hundred more")
    assert back.complete
    assert not back.done[NODE].undone
    last = max(one.started for one in tried_engines.seen("tried-3"))
    assert last <= ended, f"{last - began:.3f} s after the word was given, which took {ended - began:.3f} s"
    assert len([one for one in tried_engines.seen("tried-1") if one.started > ended]) > 250, "they go to stable"
    assert load.bad == [], "and nobody is failed"


def on_the_canary(client: httpx.Client, threads: ThreadPoolExecutor, gate: str) -> Future[Stream]:
    """A stream that runs there until its gate opens."""
    body = chat("tried", stream=True, gap=0.1, gate=gate)
    headers = {"authorization": f"Bearer {KEYS['probe']}", "x-track": "canary"}
    return threads.submit(stream, client, body, headers=headers, timeout=60)


@pytest.mark.parametrize("hard", [False, True], ids=["let-end", "hard"])
def test_a_stream_on_the_canary_goes_on_unless_it_is_hard(
    service: Balancer, split: Split, run: str, tried_engines: Stub, threads: ThreadPoolExecutor, hard: bool
) -> None:
    gate = secrets.token_hex(4)
    with httpx.Client(base_url=service.url, verify=CONTEXT) as client:
        running = on_the_canary(client, threads, gate)
        try:
            until(lambda: len(tried_engines.seen("tried-3")) == 1, "it runs on the canary")
            back = shares.take_back(split, dataclasses.replace(ANN, hard=hard)).done[NODE]
            assert (back.running, running.done() or hard) == (0 if hard else 1, hard)
        finally:
            tried_engines.gates.add(gate)
        assert running.result().complete is not hard


def test_an_engine_changes_its_track_only_when_nothing_of_it_runs(
    service: Balancer, split: Split, tried_engines: Stub, threads: ThreadPoolExecutor
) -> None:
    gate = secrets.token_hex(4)
    with httpx.Client(base_url=service.url, verify=CONTEXT) as client:
        running = on_the_canary(client, threads, gate)
        try:
            until(lambda: len(tried_engines.seen("tried-3")) == 1, "it runs on the canary")
            for wait in (0.0, 0.2):
                refused = tracks.move(split, "tried-3", "stable", wait)
                assert (refused.kind, "1 at gw1" in refused.said) == (Kind.REFUSED, True), refused
                assert observe(split).places[NODE].tracks_of("tried-3") == ("canary",), "it is where it was"
            moving = threads.submit(tracks.move, split, "tried-3", "stable", 60.0)
            until(lambda: observe(split).places[NODE].tracks_of("tried-3") == (), "it takes nothing new")
            assert not moving.done()
        finally:
            tried_engines.gates.add(gate)
        assert running.result().complete, "nothing was cut"
        assert moving.result().kind is Kind.DONE
    assert observe(split).places[NODE].tracks_of("tried-3") == ("stable",)
    last = tracks.move(dataclasses.replace(split), "tried-9", "stable", 0)
    assert (last.kind, "no engine tried-9" in last.said) == (Kind.REFUSED, True)


def test_an_engine_does_not_move_where_a_balancer_cannot_be_asked(split: Split) -> None:
    moved = tracks.move(lame(split), "tried-2", "stable", 0)
    assert (moved.kind, "gw2" in moved.said or "could not be reached" in moved.said) == (Kind.UNKNOWN, True)
    assert observe(split).places[NODE].tracks_of("tried-2") == ("baseline",)


def library() -> bytes:
    """The watchdog as a balancer has it: with nothing but Python."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("shares", "canary_runs", "canary_watchdog"):
            tar.add(REPOSITORY / f"scripts/rackserve/fleet/remote/{name}.py", f"rackserve/fleet/remote/{name}.py")
    return archive.getvalue()


def test_the_watchdog_takes_the_share_back_once_after_silence_and_not_before(
    service: Balancer, split: Split, run: str
) -> None:
    service.node.run(f"rm -rf {LIBRARY}; mkdir -p {LIBRARY} && tar -x -C {LIBRARY} -f -", library())
    watch = (
        f"PYTHONPATH={LIBRARY} python3 -m rackserve.fleet.remote.canary_watchdog --records {RUNS} --directory {ROOT} "
        f"--socket {RUNTIME}/admin.sock --master {RUNTIME}/master.sock"
    )
    service.node.run(watch)
    assert observe(split).shares == {NODE: HALF}, "its controller was heard a moment ago"
    # Down to the shortest silence that this machine does not make by being busy.
    record = json.loads(service.node.run(f"cat {RUNS}/tried.json"))
    service.node.run(f"cat > {RUNS}/tried.json", json.dumps(record | {"watchdog_seconds": 2}).encode())
    beaten = time.monotonic()
    assert runs.beat(split, run).well

    def gone() -> bool:
        service.node.run(watch)
        return observe(split).shares == {NODE: Share(0, 0)}

    until(gone, "the watchdog has taken it back")
    assert time.monotonic() - beaten >= 2
    service.node.run(watch)
    seen = observe(split)
    assert differences(seen, Share(0, 0)) == ()
    lines = journal(service, run)
    assert [line for line in lines if "by the watchdog" in line] == [lines[-1]]
    assert f"the controller of run {run} has been silent for" in lines[-1]
    assert runs.beat(split, run).stopped[NODE].by == "the watchdog"


def rollback(split: Split, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, for an inventory that says of balancers what the kept card says."""
    inventory = folder / "inventory"
    inventory.mkdir(exist_ok=True)
    stations = [
        Station(name=host.name, address=host.address, command=host.command, paths=dataclasses.asdict(PATHS))
        for host in split.balancers
        if isinstance(host, CommandHost)
    ]
    card = Card(digest=digest_of(inventory), read_at=0, pools={"tried": ENGINES}, balancers=tuple(stations))
    keep(card, card_path(inventory, folder / "rackserve"))
    command = [sys.executable, str(REPOSITORY / "scripts/rollback"), "tried", "-i", str(inventory), *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_command_says_what_it_did(service: Balancer, split: Split, run: str, tmp_path: Path) -> None:
    dry = rollback(split, tmp_path, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert json.loads(dry.stdout)["balancers"][NODE]["live"] == "300/300"
    assert f"run {run} of ann@desk would get no share any more" in dry.stderr
    assert observe(split).shares == {NODE: HALF}
    done = rollback(split, tmp_path, "--json", "--reason", "users complain")
    assert done.returncode == 0, done.stderr
    assert "gw1: canary 30 %, baseline 30 % -> 0" in done.stderr
    assert f"run {run} gets no share any more" in done.stderr
    answer = json.loads(done.stdout)
    assert (answer["balancers"][NODE]["live_before"], answer["balancers"][NODE]["undone"]) == ("300/300", [])
    assert observe(split).shares == {NODE: Share(0, 0)}
    assert any("300/300 -> 0, in the file 300/300 -> 0" in line for line in journal(service, "(users complain)"))
    again = rollback(split, tmp_path)
    assert (again.returncode, "nothing to do: no share was given" in again.stderr) == (0, True)


def test_the_command_names_the_balancer_that_could_not_be_asked(split: Split, run: str, tmp_path: Path) -> None:
    done = rollback(lame(split), tmp_path, "--json")
    assert done.returncode == 3, done.stderr
    assert "gw2: NOT DONE: " in done.stderr
    assert "gw2 may still send requests to the canary" in done.stderr
    assert json.loads(done.stdout)["balancers"][NODE]["live_after"] is None
    assert observe(split).shares == {NODE: Share(0, 0)}
