"""A small fleet, played at the Host protocol: two balancers, two monitors, two engines of one pool."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rackserve.fleet.status.observe import Fleet

PLAN: dict[str, Any] = {
    "name": "played",
    "balancers": ["lb1", "lb2"],
    "monitors": ["m1", "m2"],
    "virtual_address": {"address": "192.0.2.10"},
    "ports": {"prometheus": 9090},
    "pools": {"small": {"engines": ["e1", "e2"]}},
    "engines": [
        {"name": "e1", "pool": "small", "node": "gpu1", "release": "small-1"},
        {"name": "e2", "pool": "small", "node": "gpu2", "release": "small-1"},
    ],
}
# The clock of every balancer.
NOW = 1_764_403_200.0
COLUMNS = ("pxname", "svname", "qcur", "scur", "slim", "stot", "status", "qtime", "rtime", "ttime")
INFORMATION = "Name: HAProxy\nVersion: 3.0.11\nUptime_sec: 3725\nCurrConns: 7\nMaxconn: 1000\nIdle_pct: 93\n"
ROWS: dict[tuple[str, str], dict[str, Any]] = {
    ("api", "FRONTEND"): {"scur": 7, "status": "OPEN"},
    ("engines", "e1"): {"status": "UP"},
    ("engines", "e2"): {"status": "UP"},
    ("breakers", "e1"): {"status": "UP"},
    ("breakers", "e2"): {"status": "UP"},
    ("pool-small-stable", "e1"): {"status": "UP", "scur": 3, "slim": 4},
    ("pool-small-stable", "e2"): {"status": "UP", "scur": 2, "slim": 4},
    ("pool-small-stable", "BACKEND"): {
        "status": "UP", "scur": 9, "qcur": 3, "stot": 100, "qtime": 50, "rtime": 100, "ttime": 2000,
    },
    ("pool-small-canary", "e1"): {"status": "MAINT", "slim": 4},
    ("pool-small-canary", "e2"): {"status": "MAINT", "slim": 4},
    ("pool-small-canary", "BACKEND"): {"status": "DOWN", "scur": 0, "qcur": 0, "stot": 0},
}  # fmt: skip


def statistics(changes: Mapping[tuple[str, str], Mapping[str, Any]] | None = None) -> str:
    """`show stat` with those rows changed."""
    rows = {key: {**ROWS.get(key, {}), **(changes or {}).get(key, {})} for key in {**ROWS, **(changes or {})}}
    lines = [",".join([*key, *(str(row.get(column, "")) for column in COLUMNS[2:])]) + "," for key, row in rows.items()]
    return "\n".join([f"# {','.join(COLUMNS)},", *lines]) + "\n\n"


def digest(value: str) -> str:
    return f'type=str, case=sensitive, found=yes, idx=tree, key="digest", value="{value}", type="str"\n\n'


@dataclass
class PlayedHost:
    """Answers by program: a value, an error to raise, or a function of what was asked."""

    name: str
    answers: dict[str, Any]
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def call(self, program: str, argument: Any, deadline_seconds: float) -> Any:
        self.asked.append((program, argument))
        found = self.answers[program]
        if isinstance(found, Exception):
            raise found
        return found(argument) if isinstance(found, Callable) else found  # type: ignore[arg-type]


def balancer(
    name: str,
    changes: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    held: Sequence[str] = (),
    value: str = "abc",
    records: Mapping[str, Mapping[str, Any]] | None = None,
    maintenance: Mapping[str, int] | None = None,
) -> PlayedHost:
    return PlayedHost(
        name,
        {
            "admin_socket": [INFORMATION, statistics(changes), digest(value), whole_map(maintenance or {})],
            "addresses": list(held),
            "drains": {"now": NOW, "records": dict(records or {})},
        },
    )


def whole_map(entries: Mapping[str, int]) -> str:
    return "".join(f"0x55d1 {key} {value}\n" for key, value in entries.items()) + "\n"


def sample(value: float | str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1_764_403_200.0, str(value)]}


def alert(severity: str, name: str, state: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "state": state,
        "labels": {"alertname": name, "severity": severity, **labels},
        "annotations": {"summary": f"{name} says so", "runbook": f"docs/runbooks/{name}.md"},
        "activeAt": "2026-11-29T01:02:03.5Z",
        "value": "1e+00",
    }


WATCHDOG = alert("none", "Watchdog")
FIGURES: dict[str, list[dict[str, Any]]] = {
    "rate": [sample(2, pool="small", lane="interactive"), sample(0, pool="small", lane="batch")],
    "refused": [sample(0.5, pool="small", lane="interactive")],
    "failed": [],
    "first_token": [sample(0.25, pool="small", lane="interactive"), sample("NaN", pool="small", lane="batch")],
    "answer": [sample(4.5, pool="small", lane="interactive")],
    "budget": [sample(0.8, slo="roomy", pool="small", lane="all"), sample(0.05, slo="tight", pool="small", lane="all")],
    "exhaustion": [sample(7200, slo="tight", pool="small", lane="all")],
    "running": [sample(3, engine="e1")],
    "waiting": [sample(0, engine="e1")],
    "kv_cache": [sample(0.42, engine="e1")],
    "age": [sample(8)],
    "stored": [sample(3)],
    "unscraped": [],
}


def monitor(
    name: str,
    alerts: Sequence[dict[str, Any]] = (WATCHDOG,),
    figures: Mapping[str, list[dict[str, Any]]] | None = None,
    refused: Mapping[str, str] | None = None,
) -> PlayedHost:
    results = {**FIGURES, **(figures or {})}
    said = {"now": 1_764_403_200.0, "results": results, "refused": dict(refused or {}), "alerts": list(alerts)}
    return PlayedHost(name, {"prometheus": said})


def fleet(balancers: Sequence[Any], monitors: Sequence[Any], **changes: Any) -> Fleet:
    given: dict[str, Any] = {"sockets": {}, "digests": {"lb1": "abc", "lb2": "abc"}, **changes}
    return Fleet(PLAN, balancers, monitors, **given)
