"""The inventories that ship: valid, growing by inventory alone, and the twin's overrides declared."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rackserve.definition.load import InventoryError, load_inventory

REPOSITORY = Path(__file__).resolve().parents[3]
INVENTORIES = REPOSITORY / "inventory"
SHIPPED = ("lab", "single", "pair", "rack", "rack-test")


def test_every_inventory_of_the_repository_is_tested() -> None:
    assert {path.parent.name for path in INVENTORIES.glob("*/hosts.yml")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_inventory_is_valid_and_notes_nothing_but_example_secrets(name: str) -> None:
    outcome = load_inventory(INVENTORIES / name).outcome
    assert outcome.problems == ()
    assert [w.problem.split(" that ")[0] for w in outcome.warnings] == (["6 example secrets"] if name == "rack" else [])


def test_growing_from_single_to_pair_changes_hosts_and_engines_only() -> None:
    before, after = (load_inventory(INVENTORIES / name).plan for name in ("single", "pair"))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"name", "nodes", "engines", "pools", "balancers", "gpu_nodes"}
    pools = [plan["pools"]["assistant"] for plan in (before, after)]
    assert {key for key in pools[0] if pools[0][key] != pools[1][key]} == {"engines", "slots_per_balancer"}


def test_one_server_can_be_balancer_engine_and_monitor_on_different_ports() -> None:
    node = load_inventory(INVENTORIES / "single").plan["nodes"]["server1"]
    assert node["groups"] == ["balancers", "gpu_nodes", "monitors"]
    ports = [listener["port"] for listener in node["listeners"]]
    assert ports == [22, 8080, 8404, 8406, 8405, 8407, 8408, 9090, 9093, 9100, 8001]


def test_the_rack_uses_every_declared_gpu_once() -> None:
    plan = load_inventory(INVENTORIES / "rack").plan
    used = [(engine["node"], gpu) for engine in plan["engines"] for gpu in engine["gpus"]]
    assert sorted(used) == sorted((name, gpu) for name, node in plan["nodes"].items() for gpu in range(node["gpus"]))


def twin(tmp_path: Path, overrides: str) -> Path:
    """A copy of rack and rack-test, the links kept, with other overrides in the twin."""
    for name in ("rack", "rack-test"):
        shutil.copytree(INVENTORIES / name, tmp_path / name, symlinks=True)
    path = tmp_path / "rack-test"
    (path / "group_vars/all/overrides.yml").write_text(overrides)
    return path


def test_the_twin_differs_from_the_rack_in_declared_overrides_and_addresses_only() -> None:
    rack, test = (load_inventory(INVENTORIES / name) for name in ("rack", "rack-test"))
    declared = test.raw.variables["service_overrides"]
    differing = {
        name
        for name in set(rack.raw.variables) | set(test.raw.variables)
        if rack.raw.variables.get(name) != test.raw.variables.get(name)
    }
    assert differing - {"service_overrides"} == set(declared)
    assert list(rack.plan["nodes"]) == list(test.plan["nodes"])


def test_a_change_of_the_shared_definition_reaches_rack_and_twin_alike(tmp_path: Path) -> None:
    test = twin(tmp_path, (INVENTORIES / "rack-test/group_vars/all/overrides.yml").read_text())
    shared = tmp_path / "rack/group_vars/all/service.yml"
    shared.write_text(shared.read_text().replace("slots: 48", "slots: 40"))
    assert [load_inventory(path).plan["pools"]["chat"]["slots"] for path in (tmp_path / "rack", test)] == [40, 40]


def test_an_undeclared_override_is_refused_with_its_place(tmp_path: Path) -> None:
    path = twin(tmp_path, "---\nservice_overrides: [service_name]\nservice_name: rack-test\nservice_stage: test\n")
    (problem,) = load_inventory(path).outcome.problems
    assert problem.key == "service_stage"
    assert problem.problem == "is set otherwise than in the shared definition, but is not declared in service_overrides"
    assert problem.place is not None
    assert (Path(problem.place.file).name, problem.place.line) == ("overrides.yml", 4)


def test_a_declared_override_that_is_not_set_is_refused(tmp_path: Path) -> None:
    path = twin(tmp_path, "---\nservice_overrides: [service_stage, service_nmae]\nservice_stage: test\n")
    (problem,) = load_inventory(path).outcome.problems
    assert (problem.key, problem.value) == ("service_overrides[1]", '"service_nmae"')


def test_the_rack_with_real_addresses_refuses_the_example_secrets(tmp_path: Path) -> None:
    shutil.copytree(INVENTORIES / "rack", tmp_path / "rack")
    hosts = tmp_path / "rack/hosts.yml"
    hosts.write_text(hosts.read_text().replace("198.51.100.31", "10.20.30.31"))
    outcome = load_inventory(tmp_path / "rack").outcome
    assert [p.key for p in outcome.problems] == [
        "service_engine_key",
        "service_probe_key",
        "service_tenants.operations.keys[0].sha256",
        "service_tenants.intranet.keys[0].sha256",
        "service_tenants.intranet.keys[1].sha256",
        "service_tenants.reports.keys[0].sha256",
    ]
    assert all(p.value == "(hidden)" for p in outcome.problems)


def test_the_example_vault_has_exactly_the_variables_of_the_shipped_ones() -> None:
    example = yaml.safe_load((INVENTORIES / "vault.example.yml").read_text())
    for name in ("single", "pair", "rack", "rack-test"):
        host = next(iter(load_inventory(INVENTORIES / name).hosts.values()))
        assert {key: host[key] for key in host if key.startswith("vault_")} == example, name


def test_no_secret_of_the_lab_is_in_its_plan() -> None:
    inventory = load_inventory(INVENTORIES / "lab")
    host = inventory.hosts["lb1"]
    text = json.dumps(inventory.plan)
    secrets = [str(host[key]) for key in host if key.startswith("vault_")]
    assert len(secrets) >= 2
    assert [secret for secret in secrets if secret in text] == []


def test_a_vault_password_from_the_command_line_opens_files_and_single_values(tmp_path: Path) -> None:
    shutil.copytree(INVENTORIES / "single", tmp_path / "single")
    password = tmp_path / "password"
    password.write_text("a password of our own\n")
    vault = tmp_path / "single/group_vars/all/vault.yml"
    vault.write_text("vault_engine_key: our-own-engine-key-0123\n")
    command = [str(REPOSITORY / ".venv/bin/ansible-vault")]
    own = ["--vault-id", f"own@{password}", "--encrypt-vault-id", "own"]
    subprocess.run([*command, "encrypt", *own, str(vault)], check=True, capture_output=True, cwd=tmp_path)
    value = subprocess.run(
        [*command, "encrypt_string", *own, "--name", "vault_probe_key", "sk-our-own-probe"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    ).stdout
    (vault.parent / "single.yml").write_text(value)
    with pytest.raises(
        InventoryError, match=r"vault.yml: is encrypted, and no given password opens it \(its vault id is own\)"
    ):
        load_inventory(tmp_path / "single")
    inventory = load_inventory(tmp_path / "single", vault_ids=[f"own@{password}"])
    assert inventory.outcome.problems == ()
    assert inventory.hosts["server1"]["vault_probe_key"] == "sk-our-own-probe"
