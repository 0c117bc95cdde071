"""Twenty minutes at three times what real engines can do: slow is not hung, and nobody takes an engine out.

Expects the lab with site.yml run. Load goes straight to the engines, from lb1, which may reach them: the balancers' limits would
keep most of it away. Who is not answered within a minute leaves, as users do.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

from drills.load import Planned, Seen, poisson
from drills.rack import BALANCERS, Rack, on, rack, up, wait
from drills.results import store

SECONDS, MEASURED_SECONDS, TIMES = 1200, 20, 3
# More than two engines on two cores ever answer; only to see how many they do.
FLOOD = 60.0
PROBE, NODES = "rackserve-engine-probe", ("gpu1", "gpu2")
BODY = {"model": "small", "messages": [{"role": "user", "content": "Write one line."}], "max_tokens": 24}
BODY |= {"stream": True, "ignore_eos": True}


def load(racked: Rack, rate: float, seconds: float, seed: int) -> list[Seen]:
    """Poisson arrivals, spread over the engines of the pool."""
    engines = [one for one in racked.plan["engines"] if one["pool"] == "small"]
    key = racked.hosts["lb1"]["vault_engine_key"]
    planned = [
        Planned(moment, "load", key, BODY, host=engine["address"], port=engine["port"])
        for number, moment in enumerate(poisson(rate, seconds, seed))
        for engine in [engines[number % len(engines)]]
    ]
    program = (Path(__file__).parent / "load.py").read_text()
    on("lb1", "sh", "-c", "cat >/root/load.py", send=program)
    said = on(
        "lb1", "python3", "/root/load.py", send=json.dumps([asdict(one) for one in planned]), seconds=seconds + 120
    )
    return [Seen(**one) for one in json.loads(said)]


def words(name: str, unit: str, since: float, *about: str) -> list[str]:
    """Lines of a journal that have one of these in them."""
    lines = on(name, "journalctl", "-u", unit, "-o", "cat", "-q", f"--since=@{since:.0f}").splitlines()
    return [line for line in lines if any(one in line for one in about)]


def test_an_overloaded_engine_that_moves_is_never_called_hung() -> None:
    racked = rack()
    wait(lambda: all(up(engine["name"]) for engine in racked.plan["engines"]), "every engine in service", 180)
    flooded = load(racked, FLOOD, MEASURED_SECONDS, 1)
    capacity = sum(one.complete for one in flooded) / (MEASURED_SECONDS + max(one.seconds for one in flooded))
    began = time.time()
    seen = load(racked, TIMES * capacity, SECONDS, 2)
    out = {name: words(name, "haproxy", began, "/small-gpu1 is DOWN", "/small-gpu2 is DOWN") for name in BALANCERS}
    hung = {name: words(name, PROBE, began, "hung", "restarted") for name in NODES}
    waits = sorted(one.first_token_seconds for one in seen if one.first_token_seconds is not None)
    figures = {
        "seconds": SECONDS,
        "capacity_per_second": round(capacity, 2),
        "offered_per_second": round(len(seen) / SECONDS, 2),
        "requests": len(seen),
        "answered": sum(one.complete for one in seen),
        "left_unanswered": sum(not one.complete for one in seen),
        "first_token_p50_seconds": round(waits[len(waits) // 2], 1),
        "taken_out": sum(len(lines) for lines in out.values()),
        "called_hung": sum(len(lines) for lines in hung.values()),
    }
    store("moving", figures)
    assert figures["requests"] > 2 * capacity * SECONDS, figures
    assert figures["left_unanswered"] > figures["requests"] / 4, f"this was no overload: {figures}"
    assert (out, hung) == ({name: [] for name in BALANCERS}, {name: [] for name in NODES}), figures
