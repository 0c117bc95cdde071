"""Series and cases for the tests of operational alerts, and the small service that they are about."""

from dataclasses import dataclass
from typing import Any

from rackserve.definition.models.node import Node
from rackserve.definition.models.service import Service
from rackserve.definition.read import Definition

from gateway.slo_cases import rule_test

Series = dict[str, str]
STABLE, CANARY = "pool-p-stable", "pool-p-canary"


@dataclass(frozen=True)
class Case:
    """What has to be so of an alert, with these labels where it has several rules; the body is a test file's."""

    alert: str
    labels: dict[str, str]
    body: dict[str, Any]

    def concerns(self, rule: dict[str, Any]) -> bool:
        return rule["alert"] == self.alert and all(
            rule["labels"].get(name, value) == value
            for name, value in self.labels.items()
            if name in ("severity", "reason")
        )


def definition() -> Definition:
    """Two balancers, two engines in one pool, and places for ten, five of them at each balancer."""
    engines = tuple({"name": f"p-{n}", "node": f"g{n}", "port": 8001, "gpus": (0,)} for n in (1, 2))
    model = {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 2048}
    pool = {
        "release": "r",
        "names": ("p",),
        "slots": 8,
        "queue": {"max_requests": 10, "timeout_seconds": 20.0},
        "engines": engines,
        "timeouts": {"silence_seconds": 120.0},
    }
    values = {
        "name": "unit",
        "stage": "test",
        "models": {"m": model},
        "releases": {"r": {"version": "1.0", "lock": "l", "model": "m"}},
        "pools": {"p": pool},
        "lanes": {"chat": {"priority": 10}},
        "tenants": {"t": {"lane": "chat", "pools": ("p",)}},
        "engine_key": "0123456789abcdef",
        "tls": {"certificate": "lab_ca"},
    }
    groups = {"balancers": ("lb1", "lb2"), "gpu_nodes": ("g1", "g2"), "monitors": ("m1",)}
    names = [name for members in groups.values() for name in members]
    nodes = {name: Node(address=f"192.0.2.{number}") for number, name in enumerate(names, 1)}
    return Definition(Service.model_validate(values), nodes, groups, {})


def firing(alert: str, minute: int, expected: int, **labels: str) -> dict[str, Any]:
    """How many alerts of that name and with these labels fire at that minute."""
    wanted = ",".join(f'{name}="{value}"' for name, value in {"alertname": alert, **labels}.items())
    return {
        "expr": f'count(ALERTS{{alertstate="firing",{wanted}}}) or vector(0)',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": expected}],
    }


def case(alert: str, series: Series, looks: dict[int, int], minutes: int = 1, **labels: str) -> Case:
    """looks: minute -> how many alerts fire then."""
    checks = [firing(alert, minute, expected, **labels) for minute, expected in looks.items()]
    given = [{"series": name, "values": text} for name, text in series.items()]
    return Case(alert, labels, rule_test(given, checks, minutes))


def up(job: str, values: str, **labels: str) -> Series:
    return one("up", values, job=job, **labels)


def one(metric: str, values: str, **labels: str) -> Series:
    matched = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return {f"{metric}{{{matched}}}": values}


def status(state: str, proxy: str, **values: str) -> Series:
    """Keys such as lb1_1: the engine p-1 as the balancer lb1 sees it."""
    found: Series = {}
    for key, text in values.items():
        node, engine = key.split("_")
        labels = {"job": "haproxy", "node": node, "proxy": proxy, "server": f"p-{engine}", "state": state}
        found |= one("haproxy_server_status", text, **labels)
    return found


def sessions(side: str, proxy: str, values: str, node: str = "lb1", **labels: str) -> Series:
    return one(f"haproxy_{side}_current_sessions", values, job="haproxy", node=node, proxy=proxy, **labels)
