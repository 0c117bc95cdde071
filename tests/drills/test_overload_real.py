"""Three times the capacity of real engines, with the policy and without it: what interactive users see.

Expects the lab with site.yml run. The two cores of this machine carry load, balancer and engines alike, so the drill compares
both ways under the same load instead of asking for a fixed figure. Load comes from lb1, which may reach the engines.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from rackserve.definition.load import load_inventory

from drills.load import Planned, Seen, first_tokens, percentile, poisson
from drills.results import store

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "inventory" / "lab"
BATCH = {"slots_percent": 40, "queue_percent": 50, "queue_timeout_seconds": 5}
SECONDS = 20
BODY = {"model": "small", "messages": [{"role": "user", "content": "Write one line."}], "max_tokens": 24}
BODY |= {"stream": True, "ignore_eos": True}


def site(inventory: Path) -> None:
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml", "-i", str(inventory), "--tags", "haproxy"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def on_lb1(*command: str, send: str = "", seconds: int = 120) -> str:
    lab = [str(REPOSITORY / "scripts/lab"), "exec", "lb1", "--", *command]
    done = subprocess.run(lab, input=send, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout[-500:]}"
    return done.stdout


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The lab with a lane for batch that leaves slots to others; afterwards as its inventory says."""
    copy = tmp_path / "lab"
    subprocess.run(["cp", "-a", str(LAB), str(copy)], check=True)
    path = copy / "group_vars" / "all" / "service.yml"
    text = path.read_text()
    lanes = yaml.safe_load(text)["service_lanes"]
    lanes["batch"] |= BATCH
    old = text[text.index("service_lanes:") : text.index("service_tenants:")]
    path.write_text(text.replace(old, f"service_lanes: {json.dumps(lanes)}\n\n"))
    site(copy)
    inventory = load_inventory(copy)
    yield {"plan": inventory.plan, **inventory.hosts["lb1"]}
    site(LAB)


def load(planned: list[Planned]) -> list[Seen]:
    """Runs the load inside lb1."""
    on_lb1("sh", "-c", "cat >/root/load.py", send=(Path(__file__).parent / "load.py").read_text())
    seen = on_lb1("python3", "/root/load.py", send=json.dumps([asdict(one) for one in planned]))
    return [Seen(**one) for one in json.loads(seen)]


def test_with_the_policy_interactive_users_wait_less_than_without(policy: dict[str, Any]) -> None:
    engines = [engine for engine in policy["plan"]["engines"] if engine["pool"] == "small"]
    through = {"host": "127.0.0.1", "port": policy["plan"]["ports"]["api"], "key": policy["vault_demo_key"]}

    def planned(interactive: float, batch: float, straight: bool) -> list[Planned]:
        """Requests per second of both kinds: through the balancer, or in turn straight to the engines."""
        every = []
        for kind, rate, seed in (("interactive", interactive, 7), ("batch", batch, 8)):
            for number, moment in enumerate(poisson(rate, SECONDS, seed) if rate else []):
                engine = engines[number % len(engines)]
                where: dict[str, Any] = through | {"lane": "batch" if kind == "batch" else ""}
                if straight:
                    where = {"host": engine["address"], "port": engine["port"], "key": policy["vault_engine_key"]}
                every.append(Planned(at_seconds=moment, kind=kind, body=BODY, **where))
        return sorted(every, key=lambda one: one.at_seconds)

    # What the engines can do: as many as they run and hold at once, straight to them, until the last one is through.
    at_once = [
        Planned(0, "full", policy["vault_engine_key"], BODY, host=engine["address"], port=engine["port"])
        for engine in engines
        for _ in range(engine["slots"])
    ]
    full = load(at_once)
    assert all(one.complete for one in full), [one for one in full if not one.complete][:3]
    capacity = len(full) / max(one.seconds for one in full)
    alone = percentile(first_tokens(load(planned(0.3 * capacity, 0, straight=False)), "interactive"), 0.95)

    with_policy = load(planned(0.3 * capacity, 2.7 * capacity, straight=False))
    without = load(planned(0.3 * capacity, 2.7 * capacity, straight=True))
    figures = {
        name: {
            "interactive_p95_first_token_seconds": round(percentile(first_tokens(seen, "interactive"), 0.95), 3),
            "interactive_answered": sum(one.complete for one in seen if one.kind == "interactive"),
            "interactive_sent": sum(one.kind == "interactive" for one in seen),
            "batch_answered": sum(one.complete for one in seen if one.kind == "batch"),
            "batch_shed": sum(one.status in (429, 503) for one in seen if one.kind == "batch"),
        }
        for name, seen in (("with_policy", with_policy), ("straight_to_the_engines", without))
    }
    known = {"interactive_alone_p95_seconds": round(alone, 3), "capacity_per_second": round(capacity, 1)}
    store("overload_real", known | figures)
    mine, theirs = figures["with_policy"], figures["straight_to_the_engines"]
    assert mine["interactive_answered"] == mine["interactive_sent"], "an interactive request was refused"
    assert mine["batch_shed"] > 0
    assert mine["interactive_p95_first_token_seconds"] < theirs["interactive_p95_first_token_seconds"]
