"""Prometheus of the lab: it reads every page, and whatever a rule, a document or a script names is really there."""

import json
import re
import time
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import REPOSITORY, Service, node
from rackserve.definition.load import load_inventory
from rackserve.monitoring import monitoring

MONITOR = "lb2"
API = "http://127.0.0.1:9090/api/v1"
# Prefixes of the pages that are read, and ends by which text about metrics can be told from other text.
NAME = re.compile(r"\b(?:rackserve|haproxy|node|prometheus|alertmanager|process)_[A-Za-z0-9_]+|\bvllm:[a-z0-9_:]+")
ENDS = ("_total", "_seconds", "_bytes", "_bucket", "_count", "_sum", "_max", "_perc", "_running", "_waiting", "_queue")


@pytest.fixture(scope="module")
def watched() -> dict[str, Any]:
    definition = load_inventory(REPOSITORY / "inventory" / "lab").outcome.definition
    assert definition is not None
    return monitoring(definition)


def ask(path: str, **parameters: str) -> Any:
    url = f"{API}/{path}?{urllib.parse.urlencode(parameters)}"
    answer = json.loads(node(MONITOR, "curl", "-sf", "-m", "20", url))
    assert answer["status"] == "success", answer
    return answer["data"]


def value(query: str, at: float) -> float | None:
    result = ask("query", query=query, time=f"{at:.3f}")["result"]
    return float(result[0]["value"][1]) if result else None


def test_every_target_is_read(watched: dict[str, Any]) -> None:
    wanted = {target["address"] for job in watched["scrapes"] for target in job["targets"]}
    end = time.monotonic() + 60
    while True:
        found = {one["labels"]["instance"]: one for one in ask("targets", state="active")["activeTargets"]}
        down = {address: found.get(address, {}).get("lastError", "unknown") for address in wanted}
        down = {address: why for address, why in down.items() if found.get(address, {}).get("health") != "up"}
        if not down:
            break
        assert time.monotonic() < end, down
        time.sleep(1)
    assert set(found) == wanted, "nothing else is read"


def test_every_rule_is_loaded_and_evaluates(watched: dict[str, Any]) -> None:
    wanted = {group["name"]: len(group["rules"]) for group in watched["rules"]["groups"]}
    groups = {group["name"]: group["rules"] for group in ask("rules")["groups"]}
    assert {name: len(rules) for name, rules in groups.items()} == wanted
    assert not [rule["lastError"] for rules in groups.values() for rule in rules if rule.get("lastError")]


@pytest.fixture(scope="module")
def names(service: Service) -> set[str]:
    """Every name that Prometheus knows, once a stream, a refusal and an answer have passed."""
    headers = {"authorization": f"Bearer {service.key}"}
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    for url in service.urls.values():
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            client.post("/v1/chat/completions", json=body)
            client.post("/v1/chat/completions", json=body | {"stream": True})
            client.post("/v1/chat/completions", json=body | {"model": "none"})
    end = time.monotonic() + 90
    while "rackserve_refusals_total" not in (known := set(ask("label/__name__/values"))):
        assert time.monotonic() < end, "the page of the log service was not read"
        time.sleep(1)
    # Alertmanager counts what its receivers refused, and the lab tells nobody: its page has the name and no series.
    # So has the log service of the certificate, where there is no TLS.
    pages = [node(MONITOR, "curl", "-sf", "-m", "20", f"http://127.0.0.1:{port}/metrics") for port in (9093, 8406)]
    return known | {name for page in pages for name in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)}


def test_every_metric_that_a_rule_reads_exists(watched: dict[str, Any], names: set[str]) -> None:
    recorded = {rule["record"] for group in watched["rules"]["groups"] for rule in group["rules"] if "record" in rule}
    used = {
        name
        for group in watched["rules"]["groups"]
        for rule in group["rules"]
        for name in NAME.findall(re.sub(r'"[^"]*"', "", rule["expr"]))
        if name not in recorded
    }
    assert len(used) > 10
    assert used - names == set()


def test_every_metric_that_a_document_or_a_script_names_exists(names: set[str]) -> None:
    texts = [*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("scripts/rackserve/**/*.py")]
    used = {
        (name, str(path.relative_to(REPOSITORY)))
        for path in texts
        if path.parent != REPOSITORY / "docs" / "reports"
        for name in metrics_in(path)
    }
    assert len(used) > 10
    # A histogram is spoken of by its name, and read by those of its series.
    known = names | {name.removesuffix("_bucket") for name in names}
    assert {(name, path) for name, path in used if name not in known} == set()


def metrics_in(path: Path) -> set[str]:
    defaults = [yaml.safe_load(file.read_text()) or {} for file in REPOSITORY.glob("roles/*/defaults/main.yml")]
    found = set(NAME.findall(path.read_text())) - {name for own in defaults for name in own}
    return {name for name in found if name.endswith(ENDS) and not name.startswith("process_")}


def test_both_balancers_are_counted_and_none_twice(service: Service, names: set[str]) -> None:
    assert names
    # One moment for all questions: somebody may be asked in between.
    now = time.time()
    each = [value(f'sum(rackserve_requests_total{{job="traffic",node="{name}"}})', now) for name in ("lb1", "lb2")]
    assert all(each), each
    assert value('sum(rackserve_requests_total{job="traffic"})', now) == sum(one for one in each if one)
    assert value("count(count by (node) (rackserve_requests_total))", now) == 2
