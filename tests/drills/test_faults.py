"""Faults under load on the rack lab, with real vLLM: what users lose, how soon it is over, and that nobody has to help.

Expects the lab with site.yml run. A client asks all the time and accounts for each request; the figures go into one table,
tests/drills/results/faults.md. Each drill has bounds and fails when it gets worse than those.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from drills.client import Client, counted, examples
from drills.rack import (
    LAB,
    Rack,
    cut_off,
    full_disk,
    lab,
    on,
    playbook,
    power_off,
    rack,
    up,
    wait,
)
from drills.results import add_fault

WARM_SECONDS = 3
# So many in a row without a loss, and the service counts as whole again.
WHOLE = 20
# A fault that mends itself is given this long to be seen.
SHOWN_SECONDS = 8
# Who is sent to an engine that hangs waits longer than this.
LATE_SECONDS = 4
START = 180


@dataclass(frozen=True)
class Bounds:
    """Worst figures allowed. `lost`: failed and cut together; None: those that were open when it happened.

    `eject_seconds`: the last request that was lost (of a hang: or late) was sent at most so long after the fault. `recover_seconds`: from
    the end of the fault until every engine is in service and requests are answered one after the other.
    """

    eject_seconds: float = 0
    recover_seconds: float = 0
    lost: int | None = None
    refused: int = 0


NOTHING_LOST = Bounds(lost=0, recover_seconds=5)


@pytest.fixture(scope="module")
def racked() -> Rack:
    return rack()


@pytest.fixture(autouse=True)
def whole(racked: Rack) -> None:
    """Each drill begins with every engine in service."""
    wait(lambda: all(up(engine["name"]) for engine in racked.plan["engines"]), "every engine in service", START)


Fault = Callable[[], AbstractContextManager[object]]


def drill(
    name: str, racked: Rack, fault: Fault, bounds: Bounds, through: str = "balancers", shown: float = SHOWN_SECONDS
) -> None:
    """Load, the fault for a while, its end, recovery; then the figures are kept and compared with the bounds."""
    addresses = [racked.address] if through == "address" else racked.balancers
    with Client(addresses, racked.key) as client:
        wait(lambda: client.good_since(0) >= WARM_SECONDS * client.rate, "the load runs", 30)
        with ExitStack() as during:
            before, begun = client.open, time.monotonic()
            during.enter_context(fault())
            happened = time.monotonic()
            time.sleep(shown)
        ended = time.monotonic()
        recovered = wait(
            lambda: client.good_since(ended) >= WHOLE and all(up(engine["name"]) for engine in racked.plan["engines"]),
            f"{name}: the service is whole again\n{examples(client.requests, happened)}",
            bounds.recover_seconds + 60,
        )
    counts = counted(client.requests)
    # A request under way when the fault came is not the fault's `new request`.
    hangs = shown == HUNG_SECONDS
    bad = [one for one in client.requests if one.outcome in ("failed", "cut") or (hangs and one.seconds > LATE_SECONDS)]
    eject = max((one.sent - begun for one in bad), default=0.0)
    lost = counts["failed"] + counts["cut"]
    row = {
        "requests": len(client.requests),
        "open_at_the_fault": before,
        **counts,
        "eject_seconds": round(max(0.0, eject), 1),
        "recover_seconds": round(max(0.0, recovered - WHOLE / client.rate), 1),
    }
    add_fault(name, row)
    told = f"{name}: {row}\n{examples(client.requests, begun)}"
    assert eject <= bounds.eject_seconds, told
    assert row["recover_seconds"] <= bounds.recover_seconds, told
    assert counts["refused"] <= bounds.refused, told
    assert bounds.lost is None or lost <= bounds.lost, told


# Longer than the bound for hangs and LATE_SECONDS, so that whoever is sent to a hung engine after the bound is seen to be late.
HUNG_SECONDS = 15
PROBE = "rackserve-engine-probe"


@contextmanager
def once(act: Callable[[], object]) -> Iterator[None]:
    """Something that happens and is not taken back."""
    act()
    yield


@contextmanager
def until_taken_back(act: Callable[[], object], back: Callable[[], object]) -> Iterator[None]:
    act()
    try:
        yield
    finally:
        back()


def test_engine_killed(racked: Rack) -> None:
    def kill() -> None:
        on("gpu1", "systemctl", "kill", "--signal=KILL", "--kill-whom=all", "vllm@small-gpu1")

    drill("engine killed", racked, lambda: once(kill), Bounds(eject_seconds=2, recover_seconds=START))


@pytest.mark.quick
def test_engine_core_hangs(racked: Rack) -> None:
    """Its port answers, its health check is good, and no token comes."""
    stop, back = (["pkill", f"-{name}", "-f", "VLLM[:]:EngineCore"] for name in ("STOP", "CONT"))
    hang = until_taken_back(lambda: on("gpu1", *stop), lambda: on("gpu1", *back))
    drill("engine core hangs", racked, lambda: hang, Bounds(eject_seconds=7, recover_seconds=30), shown=HUNG_SECONDS)


def test_api_server_hangs(racked: Rack) -> None:
    def send(name: str) -> None:
        on("gpu1", "systemctl", "kill", f"--signal={name}", "--kill-whom=main", "vllm@small-gpu1")

    hang = until_taken_back(lambda: send("STOP"), lambda: send("CONT"))
    drill("API server hangs", racked, lambda: hang, Bounds(eject_seconds=7, recover_seconds=30), shown=HUNG_SECONDS)


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_probe_killed_or_hung(racked: Rack, signal: str) -> None:
    """systemd brings it back, and the balancer goes by its own check meanwhile."""

    def running() -> str:
        return on("gpu1", "systemctl", "show", "-P", "MainPID", PROBE)

    before = running()
    on_it = lambda: on("gpu1", "systemctl", "kill", f"--signal={signal}", "--kill-whom=main", PROBE)  # noqa: E731
    name = "probe killed" if signal == "KILL" else "probe hung"
    drill(name, racked, lambda: once(on_it), NOTHING_LOST)
    wait(lambda: running() not in (before, "0\n"), "another process of the probe", 60)


def test_engine_node_powered_off(racked: Rack) -> None:
    back = until_taken_back(lambda: power_off("gpu1"), lambda: lab("up"))
    drill("engine node powered off", racked, lambda: back, Bounds(eject_seconds=3, recover_seconds=START))


@pytest.mark.parametrize(
    ("directions", "name"),
    [
        pytest.param(("from", "to"), "both directions", marks=pytest.mark.quick),
        (("from",), "from the node"),
        (("to",), "to the node"),
    ],
    ids=["both", "from", "to"],
)
def test_engine_node_cut_off(racked: Rack, directions: tuple[str, ...], name: str) -> None:
    bounds = Bounds(eject_seconds=3, recover_seconds=15)
    drill(f"engine node cut off, {name}", racked, lambda: cut_off("gpu1", directions=directions), bounds)


def test_slow_engine(racked: Rack) -> None:
    """It computes a fifth of the time: slow, but alive. Nobody is sent away, and others get most of the requests."""
    stutter = "while :; do pkill -STOP -f 'VLLM[:]:'; sleep 0.4; pkill -CONT -f 'VLLM[:]:'; sleep 0.1; done"
    unit = ["systemd-run", "--quiet", "--collect", "--unit=drill", "--property=ExecStopPost=pkill -CONT -f VLLM[:]:"]
    slow = until_taken_back(
        lambda: on("gpu1", *unit, "sh", "-c", stutter), lambda: on("gpu1", "systemctl", "stop", "drill")
    )
    drill("slow engine", racked, lambda: slow, NOTHING_LOST)


@pytest.mark.quick
def test_all_engines_of_a_pool_out(racked: Rack) -> None:
    """A clear refusal at once for as long as it lasts; whole again by itself."""
    bounds = Bounds(eject_seconds=3, recover_seconds=15, refused=10_000)
    drill("all engines of a pool out", racked, lambda: cut_off("gpu1", "gpu2"), bounds)


@pytest.mark.quick
def test_haproxy_killed(racked: Rack) -> None:
    def kill() -> None:
        on(holder(racked), "systemctl", "kill", "--signal=KILL", "--kill-whom=all", "haproxy")

    drill("HAProxy killed", racked, lambda: once(kill), Bounds(eject_seconds=5, recover_seconds=10), through="address")


def test_balancer_node_powered_off(racked: Rack) -> None:
    name = holder(racked)
    back = until_taken_back(lambda: power_off(name), lambda: lab("up"))
    bounds = Bounds(eject_seconds=5, recover_seconds=60)
    drill("balancer node powered off", racked, lambda: back, bounds, through="address")


@pytest.mark.quick
def test_haproxy_reloaded_again_and_again(racked: Rack) -> None:
    def reload() -> None:
        for _ in range(3):
            on("lb1", "systemctl", "reload", "haproxy")

    drill("three reloads of HAProxy", racked, lambda: once(reload), NOTHING_LOST)


@pytest.mark.parametrize("name", ["gpu1", "lb1"])
def test_disk_full(racked: Rack, name: str) -> None:
    kind = "engine node" if name == "gpu1" else "balancer"
    drill(f"disk full on a {kind}", racked, lambda: full_disk(name), NOTHING_LOST)


def test_model_file_corrupted_and_the_engine_restarted(racked: Rack) -> None:
    """The engine says why it does not start, the other serves, and site.yml brings the file and the engine back."""
    model = "/opt/rackserve/models/tiny/1/model.safetensors"

    def spoil() -> None:
        on("gpu1", "truncate", "--size=1000", model)
        on("gpu1", "systemctl", "kill", "--signal=KILL", "--kill-whom=all", "vllm@small-gpu1")

    def mend() -> None:
        done = playbook("site.yml", "--tags", "model_store,vllm", "--limit", "gpu1")
        assert done.returncode == 0, done.stdout[-3000:]

    spoiled = until_taken_back(spoil, mend)
    bounds = Bounds(eject_seconds=2, recover_seconds=START)
    drill("model file corrupted, engine restarted", racked, lambda: spoiled, bounds)


def test_bad_configuration_pushed(racked: Rack, tmp_path: Path) -> None:
    """One that the definition's check refuses, and one that only HAProxy itself can refuse."""
    copy = tmp_path / "lab"
    shutil.copytree(LAB, copy)
    definition = copy / "group_vars/all/service.yml"
    good = definition.read_text()

    def push() -> None:
        definition.write_text(good.replace("slots: 8", "slots: -8"))
        assert playbook("site.yml", "-i", str(copy), "--tags", "haproxy").returncode != 0
        definition.write_text(good)
        done = playbook(
            "site.yml", "-i", str(copy), "--tags", "haproxy", "-e", "haproxy_private_address=nowhere.invalid"
        )
        assert done.returncode != 0, done.stdout[-2000:]

    drill("bad configuration pushed", racked, lambda: once(push), NOTHING_LOST)


OFFSET = "/run/drill-clock"
FAKE = f"""[Service]
Environment=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1
Environment=FAKETIME_TIMESTAMP_FILE={OFFSET} FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1
"""


@contextmanager
def own_clock(name: str, unit: str) -> Iterator[None]:
    """The unit goes by a clock that can be set without setting the host's."""
    directory = f"/run/systemd/system/{unit}.service.d"
    restart = f"systemctl daemon-reload && systemctl restart {unit}"
    on(name, "sh", "-c", "DEBIAN_FRONTEND=noninteractive apt-get install -yq libfaketime", seconds=180)
    try:
        on(
            name, "sh", "-c",
            f"echo +0 >{OFFSET}; mkdir -p {directory}; printf '%s' \"$0\" >{directory}/drill.conf; {restart}", FAKE,
        )  # fmt: skip
        on(name, "sh", "-c", f"grep -q faketime /proc/$(systemctl show -P MainPID {unit})/maps")
        yield
    finally:
        on(name, "sh", "-c", f"rm -rf {directory} {OFFSET}; {restart}")


def test_clock_jumps(racked: Rack) -> None:
    """An hour ahead and two back, of a probe and of HAProxy: nobody is called dead or hung, and nothing runs out."""
    places = {"gpu1": PROBE, "lb1": "haproxy"}

    def clocks(offset: str) -> None:
        for name in places:
            on(name, "sh", "-c", f"echo {offset} >{OFFSET}")

    def logged_at() -> float:
        """By HAProxy's clock: of the last request that the balancer wrote down."""
        newest = "cd /var/log/rackserve/requests && tail -qn1 $(ls -t *.jsonl | head -1)"
        return float(json.loads(on("lb1", "sh", "-c", newest))["time"])

    def jump() -> None:
        clocks("+3600")
        wait(lambda: logged_at() > time.time() + 3000, "HAProxy's clock is ahead", 10)
        time.sleep(SHOWN_SECONDS / 2)
        clocks("-3600")

    with ExitStack() as faked:
        for name, unit in places.items():
            faked.enter_context(own_clock(name, unit))
        wait(lambda: all(up(engine["name"]) for engine in racked.plan["engines"]), "every engine in service", START)
        back = until_taken_back(jump, lambda: clocks("+0"))
        drill("clock jumps of a probe and a balancer", racked, lambda: back, NOTHING_LOST)


def test_monitor_down(racked: Rack) -> None:
    def stop() -> None:
        on("lb2", "systemctl", "stop", "prometheus", "prometheus-alertmanager")

    def start() -> None:
        on("lb2", "systemctl", "start", "prometheus", "prometheus-alertmanager")

    drill("monitor down", racked, lambda: until_taken_back(stop, start), NOTHING_LOST)


@pytest.mark.quick
def test_name_service_gone(racked: Rack) -> None:
    """Nothing that serves asks for a name, a reload neither."""
    everybody = ("lb1", "lb2", "gpu1", "gpu2")

    @contextmanager
    def gone() -> Iterator[None]:
        resolvers = "/etc/resolv.conf"
        for name in everybody:
            on(name, "sh", "-c", f"cp -a {resolvers} {resolvers}.drill; echo nameserver 198.18.0.254 >{resolvers}")
        try:
            on("lb1", "systemctl", "reload", "haproxy")
            yield
        finally:
            for name in everybody:
                on(name, "mv", f"{resolvers}.drill", resolvers)

    drill("name service gone", racked, gone, NOTHING_LOST)


def holder(racked: Rack) -> str:
    """The balancer that has the virtual address."""

    def found() -> list[str]:
        address = racked.address[0]
        return [name for name in ("lb1", "lb2") if address in on(name, "ip", "address", "show")]

    wait(lambda: len(found()) == 1, "one balancer holds the address", 60)
    return found()[0]
