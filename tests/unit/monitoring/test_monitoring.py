"""What watches the service: every engine and node once, and settings that the log service takes."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rackserve.definition.load import load_inventory
from rackserve.definition.models.edge import Tls
from rackserve.definition.read import Definition
from rackserve.health.settings import Settings as ProbeSettings
from rackserve.monitoring import monitoring
from rackserve.traffic_log.labels import Labels
from rackserve.traffic_log.settings import Settings

INVENTORIES = Path(__file__).parents[3] / "inventory"
SHIPPED = ("lab", "single", "pair", "rack")


def definition(name: str, **changes: Any) -> Definition:
    found = load_inventory(INVENTORIES / name).outcome.definition
    assert found is not None
    return replace(found, service=found.service.model_copy(update=changes))


def settings(found: Definition, node: str) -> Settings:
    return Settings.model_validate_json(json.dumps(monitoring(found)["traffic"][node]))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_engine_and_node_is_watched_once(name: str) -> None:
    found = definition(name)
    scrapes = {job["job"]: job["targets"] for job in monitoring(found)["scrapes"]}
    engines = sorted(engine.name for pool in found.service.pools.values() for engine in pool.engines)
    assert sorted(target["labels"]["engine"] for target in scrapes["vllm"]) == engines
    assert sorted(target["labels"]["node"] for target in scrapes["node"]) == sorted(found.nodes)
    every = Counter(target["address"] for targets in scrapes.values() for target in targets)
    assert set(every.values()) == {1}, "one page per address"


@pytest.mark.parametrize("name", SHIPPED)
def test_targets_are_listeners_that_the_firewall_opens_to_every_monitor(name: str) -> None:
    outcome = load_inventory(INVENTORIES / name).outcome
    assert outcome.plan is not None
    assert outcome.definition is not None
    nodes = outcome.plan["nodes"]
    monitors = {nodes[monitor]["address"] for monitor in outcome.plan["monitors"]}
    for job in monitoring(outcome.definition)["scrapes"]:
        for target in job["targets"]:
            port = int(target["address"].rpartition(":")[2])
            open_to = [one["sources"] for one in nodes[target["labels"]["node"]]["listeners"] if one["port"] == port]
            assert open_to, target
            assert monitors <= {source for sources in open_to for source in sources}, target


def test_the_log_service_looks_at_the_certificate_where_there_is_one() -> None:
    tls = Tls.model_validate({"certificate": "lab_ca"})
    assert settings(definition("lab", tls=tls), "lb1").tls_port == definition("lab").service.ports.api
    assert settings(definition("lab", tls=None), "lb1").tls_port is None


@pytest.mark.parametrize("name", SHIPPED)
def test_the_log_service_takes_its_settings_and_knows_every_name(name: str) -> None:
    found = definition(name)
    for node in monitoring(found)["traffic"]:
        own = settings(found, node)
        assert set(own.pools) == set(found.service.pools)
        assert set(own.tenants) == set(found.service.tenants)
        assert set(own.lanes) == set(found.service.lanes)
        Labels(own)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_probe_takes_its_settings_and_each_engine_is_watched_on_its_node(name: str) -> None:
    found = definition(name)
    probes = {
        node: ProbeSettings.model_validate_json(json.dumps(own)) for node, own in monitoring(found)["probe"].items()
    }
    watched = {(node, engine.name, engine.port) for node, own in probes.items() for engine in own.engines}
    declared = {(one.node, one.name, one.port) for pool in found.service.pools.values() for one in pool.engines}
    assert watched == declared
    assert {own.agent.port for own in probes.values()} == {found.service.ports.probe}


def test_the_probe_measures_the_longest_step_that_the_release_allows_and_keeps_no_dump_where_none_is_wanted() -> None:
    found = definition("lab")
    releases = dict(found.service.releases)
    releases["small-1"] = releases["small-1"].model_copy(update={"flags": {"max-num-batched-tokens": 512}})
    retention = found.service.retention.model_copy(update={"crash_dump_days": 0})
    own = monitoring(definition("lab", releases=releases, retention=retention))["probe"]["gpu2"]
    assert {engine["name"]: engine["step_tokens"] for engine in own["engines"]} == {
        "small-gpu2": 512,
        "large-gpu2": 8192,
    }
    assert own["dumps"] is None


def test_days_of_a_lane_and_of_a_tenant_become_classes_of_files() -> None:
    found = definition("lab")
    lanes, tenants = dict(found.service.lanes), dict(found.service.tenants)
    lanes["batch"] = lanes["batch"].model_copy(update={"log_days": 3})
    tenants["demo"] = tenants["demo"].model_copy(update={"log_days": 40})
    retention = settings(definition("lab", lanes=lanes, tenants=tenants), "lb1").retention
    assert {name: one.days for name, one in retention.classes.items()} == {"default": 14, "3-days": 3, "40-days": 40}
    assert (retention.default, retention.lanes, retention.tenants) == (
        "default",
        {"batch": "3-days"},
        {"demo": "40-days"},
    )


def test_addresses_of_ipv6_nodes_are_in_brackets_and_listened_to() -> None:
    found = definition("lab")
    nodes = {
        name: node.model_copy(update={"address": f"fd00::{number}"})
        for number, (name, node) in enumerate(found.nodes.items())
    }
    made = monitoring(replace(found, nodes=nodes))
    assert made["scrapes"][0]["targets"][0]["address"].startswith("[fd00::")
    assert made["traffic"]["lb1"]["listen"]["address"] == "::"
