"""The world of a canary run on the real HAProxy: what it sees, and what it does to the traffic. Engines are stubs; what they run is a
file of this test, as their launcher would write it. The log service's page is made from HAProxy's own lines."""

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from rackserve.canary.moves.split import Split
from rackserve.canary.quality.prompts import Reference
from rackserve.canary.quality.read import read
from rackserve.canary.run.plan import Plan, Wish, plan_of
from rackserve.canary.run.preflight import objections
from rackserve.canary.run.world import NOTHING, Claim, Ended, Outcome, Share
from rackserve.canary.world.rack import Rack
from rackserve.canary.world.site import Access, Site
from rackserve.definition.models.canary import Canary
from rackserve.fleet.drain.fleet import Fleet, engines_of
from rackserve.fleet.ssh import CommandHost
from rackserve.traffic_log.line import Request, parse
from rackserve.traffic_log.metrics import Metrics
from rackserve.traffic_log.settings import Settings
from unit.canary.tiny_model import Model, Served, without_roles

from gateway.asking import CHAT, CONTEXT, chat, stream
from gateway.balancer import STATE, Balancer
from gateway.plan import ENGINE_KEY, FIRST_PORT, KEYS, NODE, default_lanes, default_pools, plan, pool
from gateway.stub import Seen, Stub
from gateway.test_moves import PATHS, place, until
from gateway.test_moves import service as service
from gateway.test_moves import split as split
from gateway.test_runtime_client import runtime as runtime
from gateway.test_smoke import answers
from gateway.test_split import ENGINES
from gateway.test_split import tried_engines as tried_engines

HEADERS = {"authorization": f"Bearer {KEYS['demo']}"}
EDGES = {"ttft": [0.2, 10.0], "inter_token": [1.0], "queue_wait": [1.0], "response_time": [1.0]}


class Page:
    """What the log service would say of the lines that the balancer has written since this began."""

    def __init__(self, balancer: Balancer, address: str, directory: Path) -> None:
        self._balancer, self._read = balancer, len(balancer.log_lines())
        settings = {
            "node": NODE,
            "listen": {"port": 0},
            "directory": str(directory),
            "pools": {"tried": {}},
            "lanes": ["interactive", "internal"],
            "tenants": ["demo"],
            "edges": EDGES,
            "retention": {"total_bytes": 1_000_000, "classes": {"default": {"days": 1}}},
        }
        self._metrics = Metrics(Settings.model_validate_json(json.dumps(settings)))
        self._alone = threading.Lock()
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.text()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}/metrics"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def text(self) -> bytes:
        with self._alone:
            lines = self._balancer.log_lines()
            for line in lines[self._read :]:
                if isinstance(record := parse(line.encode()), Request):
                    self._metrics.add(record)
            self._read = len(lines)
            return generate_latest(self._metrics.registry)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def page(service: Balancer, stub_address: str, tmp_path: Path) -> Iterator[Page]:
    one = Page(service, stub_address, tmp_path)
    yield one
    one.close()


@pytest.fixture
def site(
    service: Balancer, tried_engines: Stub, split: Split, page: Page, stub_address: str, tmp_path: Path
) -> Iterator[Site]:
    """Every engine is stable's and runs stub-1."""
    place(service, tried_1="stable", tried_2="stable", tried_3="stable")
    whole = plan(
        stub_address, FIRST_PORT, default_pools() | {"tried": pool(["tried"], list(ENGINES), slots=64)}, default_lanes()
    )
    releases = {name: {"model": "stub", "model_revision": "1", "flags": {}} for name in ("stub-1", "stub-2")}
    whole |= {"releases": releases, "models": {"stub": {"context_tokens": 2048, "path_key": "stub/1"}}, "monitors": []}
    for one in whole["pools"].values():
        one["health"]["token_deadline_seconds"] = 10
    whole["engines"] = [{**one, "release": "stub-1", "served_names": ["tried"]} for one in whole["engines"]]
    for name in ENGINES:
        runs(tmp_path, name, "stub-1")
        tried_engines.engines[name].serves = ("tried",)
    paths = {NODE: PATHS}
    here = CommandHost("host", "host", (sys.executable, "-"))
    yield Site(
        pool="tried",
        fleet=Fleet(whole, engines_of(whole), split.balancers, [], paths, ENGINE_KEY),
        split=split,
        nodes={"host": here},
        pages={NODE: page.url},
        edges={"slow_ttft": {"interactive": 0.2}},
        canary=Canary(),
        probe_key=KEYS["probe"],
        access=Access(tmp_path),
        lock=tmp_path / "lock",
        starts=str(tmp_path),
        certificates=CONTEXT,
        engines={one["name"]: one for one in whole["engines"] if one["pool"] == "tried"},
    )
    service.runtime("; ".join(f"set server engines/{name} state ready" for name in ENGINES))
    service.node.run(f"rm -rf {STATE}/drains {PATHS.records}")


def runs(directory: Path, engine: str, release: str) -> None:
    """As its launcher writes it at each start."""
    (directory / engine).mkdir(exist_ok=True)
    (directory / engine / "started.json").write_text(json.dumps({"release": release}))


@pytest.fixture
def run(site: Site) -> Plan:
    wish = Wish(
        run="20261129-194501-test", pool="tried", release="stub-2", before="stub-1", by="ann@desk", since=time.time(),
        engines=ENGINES, nodes=dict.fromkeys(ENGINES, "host"), fewest=1, same_model=True,
    )  # fmt: skip
    return plan_of(wish, Canary())


@pytest.fixture
def world(site: Site, run: Plan) -> Rack:
    whole = read()
    few = Reference(prompts=whole.prompts[:6], texts=whole.texts[:2])
    return Rack(site, run, few, lambda said: None)


def until_done(ask: Callable[[], Outcome]) -> Outcome:
    """Asked again as the controller does it."""
    last = Outcome(Ended.DOING)

    def ended() -> bool:
        nonlocal last
        last = ask()
        return last.kind is not Ended.DOING

    until(ended, "an outcome")
    return last


def send(service: Balancer, number: int, **stub: Any) -> list[str]:
    """The track that each answer names."""
    with httpx.Client(base_url=service.url, headers=HEADERS, timeout=15, verify=CONTEXT) as client:
        return [client.post(CHAT, json=chat("tried", **stub)).headers.get("x-track", "") for _ in range(number)]


def to_canary(service: Balancer, world: Rack, run: Plan) -> None:
    """tried-3 is the canary, and nobody else."""
    assert world.claim(run.claim).kind is Ended.DONE
    assert until_done(lambda: world.drain("tried-3")).kind is Ended.DONE
    assert world.move("tried-3", "canary") == Outcome(Ended.DONE)
    assert until_done(lambda: world.undrain("tried-3")).kind is Ended.DONE


def test_a_pool_at_rest_is_seen_whole_and_nothing_is_against_a_run(world: Rack, run: Plan) -> None:
    seen = world.observe()
    assert not seen.unreachable
    each = seen.balancers[NODE]
    assert (each.live, each.file, each.busy) == (NOTHING, NOTHING, "")
    assert dict(each.tracks) == dict.fromkeys(ENGINES, "stable")
    assert (each.drained, each.up) == (frozenset(), frozenset(ENGINES))
    assert {name: one.release for name, one in seen.engines.items()} == dict.fromkeys(ENGINES, "stub-1")
    assert seen.totals is not None, seen.no_figures
    assert objections(run, seen).said == ""


def test_an_engine_that_was_started_anew_is_another_and_one_that_does_not_run_says_so(
    world: Rack, tmp_path: Path
) -> None:
    before = world.observe().engines["tried-3"]
    time.sleep(0.01)
    runs(tmp_path, "tried-3", "stub-2")
    after = world.observe().engines["tried-3"]
    assert (after.release, after.started != before.started) == ("stub-2", True)
    (tmp_path / "tried-3" / "started.json").unlink()
    gone = world.observe().engines["tried-3"]
    assert gone.release is None
    assert "it does not run" in gone.error


def test_a_second_run_is_refused_with_who_what_and_since(world: Rack, run: Plan) -> None:
    assert world.claim(run.claim).kind is Ended.DONE
    assert world.claim(run.claim).kind is Ended.DONE, "again by the same run"
    other = Claim(run="20261129-other", pool="tried", release="stub-3", by="bob@desk", since=0)
    refused = world.claim(other)
    assert refused.kind is Ended.FAILED
    assert "run 20261129-194501-test of ann@desk with stub-2 is on its way since 20" in refused.reason
    assert world.beat(run.claim, 60, True).taken == ""
    assert world.beat(other, 60, True).taken != ""
    assert world.unclaim(run.claim).kind is Ended.DONE
    assert world.claim(other).kind is Ended.DONE


def test_an_engine_becomes_the_canary_and_its_figures_are_told_apart_also_when_it_is_dead(
    service: Balancer, world: Rack, run: Plan, tried_engines: Stub
) -> None:
    to_canary(service, world, run)
    seen = world.observe()
    assert seen.balancers[NODE].tracks == {"tried-1": "stable", "tried-2": "stable", "tried-3": "canary"}
    assert seen.totals is not None
    before = seen.totals[NODE]
    assert world.set_share(Share(canary=500)).kind is Ended.DONE
    counts = [send(service, 20), send(service, 6, status=500)]
    assert world.set_share(NOTHING).kind is Ended.DONE
    good, bad = (sum(track == "canary" for track in one) for one in counts)

    def counted() -> bool:
        totals = world.observe().totals
        return totals is not None and sum(totals[NODE].requests.values()) - sum(before.requests.values()) == 26

    until(counted, "26 requests in the figures")
    totals = world.observe().totals
    assert totals is not None
    now = totals[NODE]
    assert now.epoch == before.epoch
    assert (good + bad, bad) == (now.requests["canary"], now.cells["errors"]["canary"]["interactive"][0])
    assert len(tried_engines.seen("tried-3")) == good + bad
    # Dead: stable serves what was drawn for it, and it is the canary's error all the same.
    assert until_done(lambda: world.drain("tried-3")).kind is Ended.DONE
    assert world.set_share(Share(canary=500)).kind is Ended.DONE
    assert set(send(service, 12)) == {"stable"}
    assert world.set_share(NOTHING).kind is Ended.DONE

    def errors() -> int:
        totals = world.observe().totals
        return 0 if totals is None else totals[NODE].cells["errors"]["canary"]["interactive"][0]

    until(lambda: errors() > bad, "errors of the canary that it never saw")
    assert len(tried_engines.seen("tried-3")) == good + bad


def test_a_drain_waits_for_what_runs_and_nothing_else_is_done_until_then(
    service: Balancer, world: Rack, run: Plan, tried_engines: Stub
) -> None:
    place(service, tried_1="canary", tried_2="canary")
    with ThreadPoolExecutor() as threads, httpx.Client(
        base_url=service.url, headers=HEADERS, timeout=60, verify=CONTEXT
    ) as client:  # fmt: skip
        running = threads.submit(stream, client, chat("tried", stream=True, gap=0.05, gate="drained"))
        try:
            until(lambda: tried_engines.engines["tried-3"].running == 1, "a stream at tried-3")
            place(service, tried_1="stable")
            assert world.drain("tried-3").kind is Ended.DOING
            assert world.drain("tried-3").kind is Ended.DOING
            moved = world.move("tried-3", "canary")
            assert (moved.kind, "tried-3 is not out of service" in moved.reason) == (Ended.FAILED, True)
            started = world.start("tried-3", "stub-2")
            assert (started.kind, "is not out of service" in started.reason) == (Ended.FAILED, True)
            assert world.start("tried-3", "stub-1").kind is Ended.DONE, "it runs that already"
        finally:
            tried_engines.gates.add("drained")
        assert running.result().complete
    assert until_done(lambda: world.drain("tried-3")).kind is Ended.DONE


def test_a_hand_in_the_map_is_seen(service: Balancer, world: Rack) -> None:
    service.runtime("add map maps/shares.map tried 300/0")
    assert world.observe().balancers[NODE].live == Share(canary=300)
    service.runtime("set map maps/shares.map tried lots")
    seen = world.observe()
    assert seen.balancers == {}
    assert "'lots'" in seen.unreachable[NODE]
    assert "by hand" in seen.unreachable[NODE]


def test_figures_that_do_not_come_are_no_figures(site: Site, run: Plan, page: Page) -> None:
    page.close()
    seen = Rack(site, run, read(), lambda said: None).observe()
    assert seen.totals is None
    assert f"balancer {NODE}" in seen.no_figures
    assert NODE in seen.balancers, "all else is known"


def test_the_check_finds_the_wrong_release_and_the_wrong_model(
    world: Rack, tried_engines: Stub, tmp_path: Path
) -> None:
    wrong = until_done(lambda: world.check("tried-3", "stub-2"))
    assert (wrong.kind, wrong.reason) == (Ended.FAILED, "tried-3 runs stub-1, not stub-2")
    assert until_done(lambda: world.check("tried-3", "stub-1")).kind is Ended.DONE
    tried_engines.engines["tried-3"].serves = ("another",)
    wrong = until_done(lambda: world.check("tried-3", "stub-1"))
    assert (wrong.kind, wrong.reason) == (Ended.FAILED, "tried-3: it serves another, and not tried")


def test_smoke_goes_the_forced_route_through_ssh_to_the_balancer(
    service: Balancer, world: Rack, run: Plan, tried_engines: Stub
) -> None:
    to_canary(service, world, run)
    tried_engines.engines["tried-3"].script = answers()
    tried_engines.engines["tried-3"].seen.clear()
    found = until_done(lambda: world.smoke("tried-3"))
    assert found.kind is Ended.DONE, found.reason
    assert len(tried_engines.seen()) == len(tried_engines.seen("tried-3")) == 4
    tried_engines.engines["tried-3"].script = answers(text="")
    assert until_done(lambda: world.smoke("tried-3")).kind is Ended.FAILED


def test_reference_prompts_reach_both_engines_through_ssh_and_a_wrong_template_is_found(
    world: Rack, tried_engines: Stub
) -> None:
    def served(model: Model) -> Callable[[Seen], list[Any]]:
        engine = Served(model, random.Random(1))
        return lambda seen: [engine.chat(seen.body) if "messages" in seen.body else engine.completion(seen.body)]

    tried_engines.engines["tried-2"].script = served(Model(noise=0.25))
    tried_engines.engines["tried-3"].script = served(Model(noise=0.25))
    found = until_done(lambda: world.quality("tried-3", "tried-2"))
    assert found.kind is Ended.DONE, found.reason
    tried_engines.engines["tried-3"].script = served(Model(noise=0.25, template=without_roles))
    found = until_done(lambda: world.quality("tried-3", "tried-2"))
    assert found.kind is Ended.FAILED
    assert "its question becomes other tokens" in found.reason
    assert not tried_engines.seen("tried-1")
