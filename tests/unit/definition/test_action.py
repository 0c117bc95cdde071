"""The first task of site.yml, run by ansible-playbook itself: it stops before the next task, or gives the plan."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rackserve.definition.load import load_inventory
from rackserve.monitoring import monitoring

REPOSITORY = Path(__file__).resolve().parents[3]
# What a host's next task would do is visible in a file; connection local, so that no network is involved.
PLAYBOOK = """---
- name: Check the definition
  hosts: balancers:gpu_nodes:monitors
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Validate the definition and resolve it into a plan
      rackserve_definition:
      run_once: true
      REGISTER
- name: Touch the hosts
  hosts: balancers:gpu_nodes:monitors
  connection: local
  gather_facts: false
  tasks:
    - name: Write what this host got
      ansible.builtin.copy:
        content: "{{ service_plan | to_json }}"
        dest: "{{ touched }}/{{ inventory_hostname }}.json"
        mode: "0644"
"""


def play(
    inventory: Path, tmp_path: Path, *arguments: str, register: str = "register: service_plan"
) -> tuple[int, str, Path]:
    """(exit code, everything printed, directory with one file for each touched host)."""
    touched = tmp_path / "touched"
    touched.mkdir()
    (tmp_path / "playbook.yml").write_text(PLAYBOOK.replace("REGISTER", register))
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "-i", str(inventory), "playbook.yml", *arguments]
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_VAULT_IDENTITY_LIST": f"lab@{REPOSITORY}/inventory/lab/.vault-password",
    }
    # The interpreter is named, because a developer's machine may have shims that discovery trips over.
    command += ["-e", f"touched={touched}", "-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr, touched


def test_every_host_gets_the_plan_that_scripts_get(inventory: Callable[..., Path], tmp_path: Path) -> None:
    path = inventory({})
    status, output, touched = play(path, tmp_path)
    assert status == 0, output
    plans = {file.stem: json.loads(file.read_text()) for file in touched.iterdir()}
    assert sorted(plans) == ["cpu1", "gpu1", "gpu2", "lb1", "lb2"]
    outcome = load_inventory(path).outcome
    assert outcome.definition is not None
    watching = json.loads(json.dumps(monitoring(outcome.definition)))
    for plan in plans.values():
        assert plan.pop("monitoring") == watching
        # Ansible adds how the task ended, and takes an empty list of warnings away.
        assert {key: value for key, value in plan.items() if key not in ("changed", "failed")} | {
            "warnings": []
        } == outcome.plan


def test_limit_does_not_change_the_plan(inventory: Callable[..., Path], tmp_path: Path) -> None:
    path = inventory({})
    status, output, touched = play(path, tmp_path, "--limit", "gpu2")
    assert status == 0, output
    assert [file.name for file in touched.iterdir()] == ["gpu2.json"]
    plan = json.loads((touched / "gpu2.json").read_text())
    assert list(plan["nodes"]) == list(load_inventory(path).plan["nodes"])


def test_a_broken_definition_stops_before_any_host_is_touched_with_all_problems(
    inventory: Callable[..., Path], tmp_path: Path
) -> None:
    path = inventory(
        {"service.yml": {"slots: 8": "slots: 1", "port: 8002": "port: 8001"}, "hosts.yml": {"10.0.0.23": "gpu2.lan"}}
    )
    status, output, touched = play(path, tmp_path)
    assert status != 0
    assert list(touched.iterdir()) == []
    assert "The service definition has 3 problems; no host was touched." in output
    for line in (
        "inventory/hosts.yml:29: host gpu2: ansible_host: is not an IP address",
        "inventory/group_vars/all/service.yml:39: service_pools.small.slots: 1 slot cannot be divided over 2 balancers",
        "inventory/group_vars/all/service.yml:43: service_pools.small.engines[1].port: port 8001 of cpu1 is taken by",
    ):
        assert line in output
    assert "Traceback" not in output
    assert "unreachable=1" not in output


@pytest.mark.parametrize("limit", [(), ("--limit", "lb1")], ids=["all hosts", "one host"])
def test_a_problem_outside_the_limit_stops_too(
    limit: tuple[str, ...], inventory: Callable[..., Path], tmp_path: Path
) -> None:
    status, output, touched = play(inventory({"service.yml": {"node: gpu2": "node: gpu3"}}), tmp_path, *limit)
    assert status != 0
    assert list(touched.iterdir()) == []
    assert "there is no host in the group gpu_nodes called 'gpu3'; did you mean 'gpu2'?" in output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slots: 8", "slots: 8\n    slots: 4", "service_pools.small.slots: is written twice; the first is in line 39"),
        (
            "{{ vault_engine_key }}",
            "{{ vault_nothing }}",
            "service_engine_key: cannot be rendered: 'vault_nothing' is undefined",
        ),
        (
            "service_name: unit",
            "service_name: unit\nservice_pool: {}",
            "service_pool: unknown variable; did you mean 'service_pools'?",
        ),
        ("names: [small, chat]", "names: [small, chat", "YAML parsing failed"),
    ],
    ids=["a key twice", "an undefined variable", "an unknown variable", "no YAML"],
)
def test_a_file_with_an_error_stops_without_traceback(
    old: str, new: str, message: str, inventory: Callable[..., Path], tmp_path: Path
) -> None:
    status, output, touched = play(inventory({"service.yml": {old: new}}), tmp_path)
    assert status != 0
    assert list(touched.iterdir()) == []
    assert message in output.replace("\n", " ")
    assert "Traceback" not in output


def test_text_from_the_command_line_is_refused_and_json_taken(inventory: Callable[..., Path], tmp_path: Path) -> None:
    path = inventory({})
    status, output, _ = play(path, tmp_path, "-e", 'service_ports={"api":8081,"stats":8404}')
    assert status != 0
    assert "service_ports: is text, not a mapping (key: value)" in output
    (tmp_path / "touched").rmdir()
    status, output, touched = play(path, tmp_path, "-e", '{"service_ports": {"api": 8081, "stats": 8404}}')
    assert status == 0, output
    ports = json.loads((touched / "lb1.json").read_text())["ports"]
    assert {key: ports[key] for key in ("api", "stats", "peers")} == {"api": 8081, "stats": 8404, "peers": 8405}


def test_no_secret_is_printed_however_loud_ansible_is(inventory: Callable[..., Path], tmp_path: Path) -> None:
    edit = {"service.yml": {"5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8": "sk-live-4242424242"}}
    _, output, _ = play(inventory(edit), tmp_path, "-vvv")
    assert "is not a hash; it looks like a key itself" in output
    for secret in ("sk-live-4242424242", "sk-unit-0123456789", "unit-engine-key-0123456789"):
        assert secret not in output


def test_a_task_that_does_not_keep_the_plan_is_refused(inventory: Callable[..., Path], tmp_path: Path) -> None:
    status, output, touched = play(inventory({}), tmp_path, register="changed_when: false")
    assert status != 0
    assert list(touched.iterdir()) == []
    assert "add `register: service_plan` to the task" in output
