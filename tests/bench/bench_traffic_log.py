"""The log service on one core: lines a second beside 2,000 and beside plain json.loads, and memory after N and 4 N lines."""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import REPOSITORY, store

sys.path.insert(0, str(REPOSITORY / "scripts"))
sys.path.insert(0, str(REPOSITORY / "tests"))

from rackserve.slo import edges
from rackserve.traffic_log.service import BATCH, Service
from rackserve.traffic_log.settings import Settings
from unit.traffic_log.making import line

GOAL_LINES_PER_SECOND = 2000
LINES = int(os.environ.get("BENCH_TRAFFIC_LOG_LINES", "100000"))
REPEATS = 3
# Longer values than the tests', as in a rack.
LONG = {"request_id": "0b5b1bd6-7f3b-4d0a-9a3c-7d2c9f0c1a11", "key_name": "demo/demo-1", "process": 7}
TIMES = {"first_token_ms": 100, "last_token_ms": 1100}


def lines(first: int, count: int) -> list[bytes]:
    """Every line has a tenant and a model that nobody declared, as under an attack."""
    return [
        line(**LONG, **TIMES, number=number, tenant=f"t{number}", model=f"m{number}")
        for number in range(first, first + count)
    ]


def settings(directory: str) -> Settings:
    values = {
        "node": "lb1",
        "listen": {"port": 0},
        "directory": directory,
        "pools": {"small": {"silence_seconds": 120}},
        "lanes": ["interactive"],
        "tenants": ["demo"],
        "edges": {indicator: list(ladder) for indicator, ladder in edges(()).items()},
        "retention": {"total_bytes": 64 * 2**20, "classes": {"default": {"days": 14}}},
    }
    return Settings.model_validate_json(json.dumps(values))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def taken(service: Service, first: int, count: int) -> float:
    """CPU seconds of the service's own work on so many lines, files included."""
    spent = 0.0
    for start in range(first, first + count, BATCH):
        batch = lines(start, BATCH)
        begin = time.process_time()
        service.take(batch, time.monotonic())
        service.tick(time.monotonic())
        spent += time.process_time() - begin
    return spent


def plain_json(count: int) -> float:
    spent = 0.0
    for start in range(0, count, BATCH):
        batch = lines(start, BATCH)
        begin = time.process_time()
        for one in batch:
            json.loads(one)
        spent += time.process_time() - begin
    return spent


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as directory:
        service = Service(settings(directory))
        ours = [LINES / taken(service, 0, LINES)]
        after_one = resident_mib()
        ours += [LINES / taken(service, LINES * number, LINES) for number in range(1, REPEATS + 1)]
        after_four = resident_mib()
        service.files.close()
    theirs = statistics.median(LINES / plain_json(LINES) for _ in range(REPEATS))
    rate = statistics.median(ours)
    store(
        "traffic_log",
        "make bench (tests/bench/bench_traffic_log.py)",
        {
            "lines": LINES,
            "lines_per_second_and_core": round(rate),
            "times_the_goal_of_2000": round(rate / GOAL_LINES_PER_SECOND, 2),
            "json_loads_per_second_and_core": round(theirs),
            "part_of_json_loads": round(rate / theirs, 3),
            "resident_mib_after_n": after_one,
            "resident_mib_after_4n": after_four,
        },
    )


if __name__ == "__main__":
    main()
