"""The monitor reads what it was told to read, judges by the rules it was given, and its parts run as the roles say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from rackserve.definition.load import load_inventory
from rackserve.monitoring import monitoring as made_from
from testinfra.host import Host

testinfra_hosts = ["ansible://monitors"]


@pytest.fixture
def ports(plan: dict[str, Any]) -> dict[str, int]:
    return {"prometheus": 9090, "alertmanager": 9093, **plan.get("ports", {})}


@pytest.fixture(scope="session")
def planned(plan: dict[str, Any], inventory_path: str) -> dict[str, Any]:
    """What site.yml hands over; empty where the inventory holds no service definition."""
    definition = load_inventory(Path(inventory_path)).outcome.definition if plan else None
    return made_from(definition) if definition else {}


@pytest.fixture
def monitoring(planned: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """What the monitor should read and judge by: the plan's, or that of a role alone on a test node."""
    if planned:
        return planned
    return {"scrapes": variables["prometheus_scrapes"], "rules": variables["prometheus_rules"]}


@pytest.fixture
def ask(host: Host, ports: dict[str, int]) -> Callable[[str], Any]:
    def answer(path: str) -> Any:
        url = f"http://127.0.0.1:{ports['prometheus']}{path}"
        out = host.check_output("curl --silent --show-error --fail --globoff %s", url)
        return json.loads(out)["data"]

    return answer


@pytest.mark.parametrize("unit", ["prometheus", "prometheus-alertmanager", "prometheus-node-exporter"])
def test_it_runs_and_starts_at_boot(host: Host, unit: str, journal: Callable[[str], str]) -> None:
    states = [host.run(f"systemctl {question} {unit}").stdout.strip() for question in ("is-active", "is-enabled")]
    assert states == ["active", "enabled"], journal(unit)


def test_every_target_is_known_with_its_labels_and_no_other(
    ask: Callable[[str], Any], monitoring: dict[str, Any]
) -> None:
    wanted = {
        (scrape["job"], target["address"], scrape["path"], *sorted(labels_of(target).items()))
        for scrape in monitoring["scrapes"]
        for target in scrape["targets"]
    }
    known = {
        (
            target["scrapePool"],
            target["discoveredLabels"]["__address__"],
            target["discoveredLabels"]["__metrics_path__"],
            *sorted((name, value) for name, value in target["labels"].items() if name not in ("job", "instance")),
        )
        for target in ask("/api/v1/targets?state=active")["activeTargets"]
    }
    assert known == wanted


def labels_of(target: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in (target.get("labels") or {}).items()}


def eventually(look: Callable[[], Any], right: Callable[[Any], bool], seconds: float = 40) -> Any:
    """What was seen last; after a start the first readings take up to two scrape intervals."""
    deadline = time.monotonic() + seconds
    while not right(seen := look()) and time.monotonic() < deadline:
        time.sleep(1)
    return seen


def test_nodes_and_the_monitor_itself_are_read(ask: Callable[[str], Any]) -> None:
    def missing() -> list[tuple[str, str, str]]:
        targets = ask("/api/v1/targets?state=active")["activeTargets"]
        own = [target for target in targets if target["scrapePool"] in ("node", "prometheus", "alertmanager")]
        assert {target["scrapePool"] for target in own} == {"node", "prometheus", "alertmanager"}
        return [(one["scrapeUrl"], one["health"], one["lastError"]) for one in own if one["health"] != "up"]

    assert eventually(missing, lambda seen: not seen) == []


def test_the_rules_are_loaded_and_none_fails(ask: Callable[[str], Any], monitoring: dict[str, Any]) -> None:
    wanted = {
        (group["name"], rule.get("alert") or rule.get("record"))
        for group in monitoring["rules"]["groups"]
        for rule in group["rules"]
    }
    known = [(group["name"], rule) for group in ask("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert {(group, rule["name"]) for group, rule in known} == wanted
    assert not [(rule["name"], rule["lastError"]) for _, rule in known if rule["health"] == "err"]


def test_alerts_go_to_an_alertmanager(ask: Callable[[str], Any], ports: dict[str, int]) -> None:
    urls = [one["url"] for one in ask("/api/v1/alertmanagers")["activeAlertmanagers"]]
    assert urls
    assert all(f":{ports['alertmanager']}/" in url for url in urls)


def test_figures_are_kept_by_time_and_by_size(
    ask: Callable[[str], Any], plan: dict[str, Any], variables: dict[str, Any]
) -> None:
    if plan:
        days, gib = plan["retention"]["metrics_days"], plan["retention"]["metrics_gib"]
    else:
        days, gib = variables["prometheus_retention_days"], variables["prometheus_retention_gib"]
    flags = ask("/api/v1/status/flags")
    assert hours(flags["storage.tsdb.retention.time"]) == days * 24
    assert size(flags["storage.tsdb.retention.size"]) == gib * 2**30


def hours(text: str) -> int:
    """2d, 6w3d: as Prometheus prints it."""
    units = {"y": 365 * 24, "w": 7 * 24, "d": 24, "h": 1}
    total, digits = 0, ""
    for letter in text:
        if letter.isdigit():
            digits += letter
        else:
            total, digits = total + int(digits) * units[letter], ""
    return total


def size(text: str) -> float:
    """512MiB, 10GiB."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[unit[0]]


def test_the_addresses_of_receivers_are_for_root_and_alertmanager_only(host: Host) -> None:
    file = host.file("/etc/prometheus/alertmanager.yml")
    assert (file.user, file.group, file.mode) == ("root", "prometheus", 0o640)


def test_nothing_listens_for_peers_where_there_are_none(host: Host, plan: dict[str, Any]) -> None:
    if len(plan.get("monitors") or [0]) == 1:
        assert not host.run("ss --no-header --listening --tcp --udp --numeric 'sport = :9094'").stdout.strip()


def test_the_root_of_every_node_is_measured(ask: Callable[[str], Any]) -> None:
    def nodes(expression: str) -> dict[str, float]:
        found = ask(f"/api/v1/query?query={quote(expression)}")["result"]
        return {one["metric"]["node"]: float(one["value"][1]) for one in found}

    known = nodes('up{job="node"}')
    free = eventually(
        lambda: nodes('node_filesystem_avail_bytes{mountpoint="/"}'), lambda seen: set(seen) == set(known)
    )
    assert set(free) == set(known)
    assert all(bytes_free > 0 for bytes_free in free.values())
