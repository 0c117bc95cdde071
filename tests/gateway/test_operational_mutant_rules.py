"""Every window, number, comparison and waiting time of the operational alerts is changed in turn, and a test notices."""

from collections.abc import Iterator
from typing import Any

from gateway.alert_cases import CASES
from gateway.balancer import Node
from gateway.promtool import Promtool
from gateway.slo_cases import mutants
from gateway.test_operational_rules import GROUPS

Rule = dict[str, Any]
SECONDS = {"m": 60, "h": 3600}


def kinds() -> dict[str, Rule]:
    """Rules by alert, severity and reason; of those that differ by node alone the first. Watchdog's number says nothing."""
    found: dict[str, Rule] = {}
    for rule in (rule for group in GROUPS for rule in group["rules"] if rule["alert"] != "Watchdog"):
        found.setdefault(f"{rule['alert']}-{rule['labels']['severity']}-{rule['labels'].get('reason', '')}", rule)
    return found


def waits(text: str) -> Iterator[str]:
    """Twice as long, and half as long. Rules are looked at each minute, so half of one is nothing."""
    seconds = int(text[:-1]) * SECONDS[text[-1]]
    yield f"{seconds * 2}s"
    yield f"{seconds // 2 if seconds > 60 else 0}s"


def changed(rule: Rule) -> Iterator[tuple[str, Rule]]:
    for what, expression in mutants(rule["expr"], counts=True):
        yield what, {**rule, "expr": expression}
    for text in waits(rule["for"]) if "for" in rule else ():
        yield f"for {rule['for']} -> {text}", {**rule, "for": text}


def cases_of(rule: Rule) -> list[dict[str, Any]]:
    """One test file of all cases that look every minute, and one of the others."""
    found: dict[str, dict[str, Any]] = {}
    for case in CASES.values():
        if case.concerns(rule):
            step = case.body["evaluation_interval"]
            before = found[step]["tests"] if step in found else []
            found[step] = {**case.body, "tests": [*before, *case.body["tests"]]}
    return list(found.values())


def test_every_changed_alert_is_noticed(node: Node) -> None:
    files: dict[str, tuple[list[Rule], dict[str, Any]]] = {}
    changes: dict[str, str] = {}
    for kind, rule in kinds().items():
        for number, (what, other) in enumerate([("nothing", rule), *changed(rule)]):
            group = {"name": "operations", "interval": "1m", "rules": [other]}
            changes[f"{kind}.{number}"] = what
            files |= {f"{kind}.{number}.{n}": ([group], body) for n, body in enumerate(cases_of(rule))}
    assert len(changes) > 200
    noticed = {name.rpartition(".")[0] for name in Promtool(node).failing(files)}
    left = {name: what for name, what in changes.items() if name not in noticed}
    assert left == {f"{kind}.0": "nothing" for kind in kinds()}, (
        "changes that no test notices, or a rule that fails its own"
    )
