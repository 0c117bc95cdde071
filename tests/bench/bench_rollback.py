"""A rollback under load at two balancers: how long after the word was given the last new request reaches the canary, and how long
the whole command takes. Connections are open, as they are while a canary runs.

Real HAProxy (tests/gateway), engines played. `queued`: requests that waited for the canary at that moment, which start there later.
"""

import argparse
import asyncio
import copy
import dataclasses
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import yaml
from gateway.asking import CHAT, CONTEXT, chat
from gateway.balancer import Balancer, Node, candidate, eventually
from gateway.conftest import STUB_ADDRESS
from gateway.plan import FIRST_PORT, KEYS, NODE, UNIT, plan, pool
from gateway.stub import Stub
from measure import REPOSITORY, store
from rackserve.canary.moves import card, runs, shares
from rackserve.canary.moves.share import Share
from rackserve.canary.moves.split import Split
from rackserve.fleet.paths import Paths
from rackserve.fleet.ssh import CommandHost, host_of

OTHER, APART = "gw2", 10
ENGINES = ("tried-1", "tried-2", "tried-3")
SHARE = Share(250, 250)
CLIENTS = 24


def service() -> dict[str, Any]:
    return plan(STUB_ADDRESS, FIRST_PORT, {"tried": pool(["tried"], list(ENGINES), slots=64, canary={})})


@contextmanager
def balancers(node: Node) -> Iterator[list[Balancer]]:
    """Two of them on one node, with the engines of the pool in a track each."""
    ports = {NODE: service()["ports"], OTHER: {name: port + APART for name, port in service()["ports"].items()}}
    nodes = {
        name: {"address": node.address, "peers_port": own["peers"], "stats_port": own["stats"]}
        for name, own in ports.items()
    }
    both = []
    for name, own in ports.items():
        unit = UNIT if name == NODE else f"{UNIT}-second"
        one = Balancer(node, own["api"], own["stats"], unit)
        one.prepare()
        whole = copy.deepcopy(service()) | {"balancers": [NODE, OTHER], "nodes": nodes, "ports": own}
        one.start(candidate(whole, name, unit=unit))
        node.run(f"mkdir -p {root(one)} && ln -sfn {one.configuration} {root(one)}/current")
        both.append(one)
    try:
        for one in both:
            eventually(one.all_up, "every engine in service", 30)
            for engine, track in zip(ENGINES, ("stable", "baseline", "canary"), strict=True):
                one.runtime(f"set server pool-tried-stable/{engine} state maint")
                one.runtime(f"set server pool-tried-{track}/{engine} state ready")
        yield both
    finally:
        for one in both:
            one.stop()
            node.run(f"rm -rf {root(one)} {one.state_directory}/canary")


def root(one: Balancer) -> str:
    return f"{one.configuration}-bench"


def split_of(both: list[Balancer]) -> Split:
    inventory = yaml.safe_load((REPOSITORY / "tests/gateway/inventory/hosts.yml").read_text())["all"]
    variables = inventory["vars"] | inventory["hosts"][NODE]
    paths = {
        name: Paths(
            f"{one.runtime_directory}/admin.sock",
            f"{one.runtime_directory}/master.sock",
            root(one),
            runs=f"{one.state_directory}/canary",
        )
        for name, one in zip((NODE, OTHER), both, strict=True)
    }
    return Split("tried", ENGINES, [host_of(name, variables) for name in paths], paths)


class Load:
    """Clients that ask without a pause, half of them at each balancer."""

    def __init__(self, urls: list[str]) -> None:
        self._urls, self._over, self.answers, self.failed = urls, threading.Event(), 0, 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    async def _all(self) -> None:
        headers = {"authorization": f"Bearer {KEYS['demo']}"}
        async with httpx.AsyncClient(headers=headers, timeout=30, verify=CONTEXT) as client:
            await asyncio.gather(*(self._one(client, self._urls[number % 2]) for number in range(CLIENTS)))

    async def _one(self, client: httpx.AsyncClient, url: str) -> None:
        while not self._over.is_set():
            answer = await client.post(f"{url}{CHAT}", json=chat("tried", ttft=0.05))
            self.answers += 1
            self.failed += answer.status_code != 200


def measured(split: Split, stub: Stub, load: Load, back: Callable[[], int | None]) -> dict[str, float]:
    """One rollback. Milliseconds."""
    name = f"bench-{secrets.token_hex(4)}"
    if not (runs.begin(split, name, "bench", 60).well and shares.give(split, SHARE, name).complete):
        sys.exit("the share could not be given")
    stub.reset()
    eventually(lambda: len(stub.seen("tried-3")) > 50, "the canary has its share", 60)
    began = time.monotonic()
    queued = back()
    ended, answers = time.monotonic(), load.answers
    eventually(lambda: load.answers > answers + 200, "the load goes on", 60)
    last = max(one.started for one in stub.seen("tried-3"))
    late = sum(one.started > ended for one in stub.seen("tried-3"))
    found: dict[str, float] = {"last_new_ms": 1000 * max(last - began, 0), "whole_ms": 1000 * (ended - began)}
    found["after_it_ended"] = late
    if queued is not None:
        found["queued"] = queued
    return found


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key in rounds[0]:
        values = [one[key] for one in rounds]
        if key.endswith("_ms"):
            found |= {f"{key}_median": round(statistics.median(values)), f"{key}_worst": round(max(values))}
        else:
            found[key] = round(sum(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: tests/bench/bench_rollback.py")
    parser.add_argument("--rounds", type=int, default=10, help="rollbacks of each kind")
    arguments = parser.parse_args()
    node, engines = Node(), {one["name"]: one["port"] for one in service()["engines"]}
    stub = Stub(STUB_ADDRESS, engines)
    stub.open()
    with balancers(node) as both, tempfile.TemporaryDirectory() as folder, Load([one.url for one in both]) as load:
        split = split_of(both)
        inventory = Path(folder) / "inventory"
        inventory.mkdir()
        stations = [
            card.Balancer(
                name=one.name, address=one.address, command=one.command, paths=dataclasses.asdict(split.paths[one.name])
            )
            for one in split.balancers
            if isinstance(one, CommandHost)
        ]
        kept = card.Card(
            digest=card.digest_of(inventory), read_at=0, pools={"tried": ENGINES}, balancers=tuple(stations)
        )
        card.keep(kept, card.card_path(inventory, Path(folder) / "rackserve"))

        def word() -> int:
            outcome = shares.take_back(split, shares.Word("bench", "bench"))
            if not outcome.complete or any(one.undone for one in outcome.done.values()):
                sys.exit(f"not taken back: {outcome}")
            return sum(one.waiting or 0 for one in outcome.done.values())

        def command() -> None:
            words = [sys.executable, str(REPOSITORY / "scripts/rollback"), "tried", "-i", str(inventory)]
            environment = os.environ | {"XDG_CACHE_HOME": folder}
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                sys.exit(done.stderr)

        kinds: dict[str, Callable[[], int | None]] = {"from_the_word": word, "whole_command": command}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        begin, before = time.monotonic(), load.answers
        for _ in range(arguments.rounds):
            for name, back in kinds.items():
                rounds[name].append(measured(split, stub, load, back))
        rate = (load.answers - before) / (time.monotonic() - begin)
    stub.close()
    figures: dict[str, Any] = {name: summary(every) for name, every in rounds.items()}
    figures |= {"rounds": arguments.rounds, "requests_per_second": round(rate), "failed": load.failed}
    figures |= {"share": str(SHARE), "load_average": round(os.getloadavg()[0], 1)}
    store("rollback", f"tests/bench/bench_rollback.py {' '.join(sys.argv[1:])}".strip(), figures)


if __name__ == "__main__":
    main()
