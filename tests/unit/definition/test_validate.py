"""scripts/validate as an operator runs it: exit codes, streams, JSON, time."""

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rackserve.definition.load import load_inventory

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = REPOSITORY / "scripts/validate"


def run(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [str(SCRIPT), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_valid_inventory_exits_0_and_says_what_it_saw() -> None:
    done = run("-i", "inventory/lab")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "inventory/lab: valid (4 nodes, 3 engines, 2 pools, 2 tenants). No host was touched.\n"


def test_warnings_are_shown_and_exit_0() -> None:
    done = run("-i", "inventory/rack")
    assert done.returncode == 0
    assert done.stderr.startswith("warning inventory/rack: 6 example secrets that everybody can read: ")
    assert done.stderr.endswith("3 tenants, 1 warning). No host was touched.\n")


def test_problems_exit_2_and_all_are_shown(inventory: Callable[..., Path], tmp_path: Path) -> None:
    path = inventory({"service.yml": {"slots: 8": "slots: 1", "port: 8002": "port: 8001"}})
    done = run("-i", str(path), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error ")]
    assert [line.split(": ")[1] for line in errors] == [
        "service_pools.small.slots",
        "service_pools.small.engines[1].port",
    ]
    assert done.stderr.endswith("inventory: 2 problems. Nothing was touched.\n")


def test_json_is_one_object_with_the_plan_that_scripts_get(inventory: Callable[..., Path], tmp_path: Path) -> None:
    path = inventory({})
    done = run("-i", str(path), "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["valid"], report["problems"]) == (0, True, [])
    assert report["plan"] == load_inventory(path).plan


def test_json_of_a_broken_definition_has_the_parts_of_each_problem(
    inventory: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("-i", str(inventory({"service.yml": {"slots: 8": "slots: 1"}})), "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["valid"], report["plan"]) == (2, False, None)
    assert report["problems"] == [
        {
            "severity": "error",
            "file": "inventory/group_vars/all/service.yml",
            "line": 39,
            "key": "service_pools.small.slots",
            "value": "1",
            "problem": "1 slot cannot be divided over 2 balancers",
            "allowed": "at least 2",
            "remedy": "raise slots, or take a balancer out",
        }
    ]


def test_an_inventory_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    done = run("-i", "inventory/nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error inventory/nowhere: there is no such inventory\n"
        f"      value: {tmp_path}/inventory/nowhere\n"
        f"      allowed: {REPOSITORY}/inventory has lab, pair, rack, rack-test, single\n"
        "      do: correct the path\n"
        "inventory/nowhere: 1 problem. Nothing was touched.\n"
    )


def test_a_password_file_that_is_not_there_is_named() -> None:
    done = run("-i", "inventory/lab", "--vault-password-file", "nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "The vault password file" in done.stderr
    assert "nowhere was not found" in done.stderr


@pytest.mark.parametrize("hosts", ["all: [", "all: {children: {balancers: {hosts: [lb1]}}}", "{}", ""])
def test_a_hosts_file_that_cannot_be_used_gives_no_traceback(hosts: str, tmp_path: Path) -> None:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(hosts)
    done = run("-i", "inventory", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error inventory" in done.stderr


def test_a_rack_of_40_engines_costs_less_than_2_seconds_of_cpu() -> None:
    """CPU time, because other tests may hold the cores; the best of up to five, because they slow each other down too."""
    seconds: list[float] = []
    while len(seconds) < 5 and min(seconds, default=2) >= 2:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-i", "inventory/rack").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 2, seconds
