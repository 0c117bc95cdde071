"""What the probe costs on a lab node with two engines: share of one core and memory, idle and under load, a minute each.

The lab has to run (make demo). BENCH_PROBE_INVENTORY and BENCH_PROBE_NODE name another rack.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from measure import REPOSITORY, store

sys.path.insert(0, str(REPOSITORY / "scripts"))

from rackserve.definition.load import load_inventory

GOAL_CORE_SHARE, GOAL_MB = 0.01, 60
INVENTORY = Path(os.environ.get("BENCH_PROBE_INVENTORY", str(REPOSITORY / "inventory/lab")))
NODE = os.environ.get("BENCH_PROBE_NODE", "gpu2")
SECONDS = float(os.environ.get("BENCH_PROBE_SECONDS", "60"))
CLIENTS = 4


def on_node(*command: str) -> str:
    done = subprocess.run(
        [str(REPOSITORY / "scripts/lab"), "exec", NODE, "--", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{NODE}: {' '.join(command)}: {done.stderr.strip()}. Bring the lab up first: make demo.")
    return done.stdout


def spent(pid: str) -> float:
    """Seconds of processor time so far."""
    fields = on_node("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: str) -> float:
    line = next(one for one in on_node("cat", f"/proc/{pid}/status").splitlines() if one.startswith("VmRSS"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def share(pid: str) -> float:
    begin, before = time.monotonic(), spent(pid)
    time.sleep(SECONDS)
    return round((spent(pid) - before) / (time.monotonic() - begin), 4)


class Load:
    """Clients on every pool of the node's engines, through the first balancer."""

    def __init__(self, url: str, key: str, pools: list[str]) -> None:
        self._stop = threading.Event()
        self._url, self._key = url, key
        self.answered = 0
        self._threads = [
            threading.Thread(target=self._run, args=(pools[n % len(pools)],), daemon=True) for n in range(CLIENTS)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, pool: str) -> None:
        body = {"model": pool, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 32}
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=60) as client:
            while not self._stop.is_set():
                self.answered += client.post("/v1/chat/completions", json=body).status_code == 200


def main() -> None:
    inventory = load_inventory(INVENTORY)
    plan: dict[str, Any] = inventory.plan
    balancer = inventory.hosts[plan["balancers"][0]]
    url = f"http://{balancer['ansible_host']}:{plan['ports']['api']}"
    engines = [engine for engine in plan["engines"] if engine["node"] == NODE]
    pid = on_node("systemctl", "show", "-P", "MainPID", "rackserve-engine-probe.service").strip()
    idle = share(pid)
    with Load(url, balancer["vault_demo_key"], sorted({engine["pool"] for engine in engines})) as load:
        busy = share(pid)
    memory = resident_mb(pid)
    figures = {
        "engines": len(engines),
        "balancers": len(plan["balancers"]),
        "seconds_each": SECONDS,
        "answers_under_load": load.answered,
        "core_share_idle": idle,
        "core_share_under_load": busy,
        "resident_mb": memory,
        "goal_core_share": GOAL_CORE_SHARE,
        "goal_mb": GOAL_MB,
    }
    store("probe", "tests/bench/bench_probe.py", figures)
    if max(idle, busy) > GOAL_CORE_SHARE or memory > GOAL_MB:
        sys.exit(f"over the goal of {GOAL_CORE_SHARE:.0%} of a core and {GOAL_MB} MB")


if __name__ == "__main__":
    main()
