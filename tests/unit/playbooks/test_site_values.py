"""What site.yml hands to its roles, worked out by Ansible itself on a small plan, and what it refuses."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
PLAN: dict[str, Any] = {
    "models": {
        "open": {"revision": "1", "source": {"kind": "node", "path": "/srv/open"}},
        "public": {"revision": "1", "source": {"kind": "huggingface", "token_variable": None}},
        "gated": {"revision": "1", "source": {"kind": "huggingface", "token_variable": "vault_hub"}},
        "elsewhere": {"revision": "1", "source": {"kind": "huggingface", "token_variable": "vault_other"}},
    },
    "nodes": {
        "localhost": {"models": ["gated", "open", "public"], "address": "fd00::1"},
        "other": {"address": "fd00::2"},
        "third": {"address": "192.0.2.3"},
    },
    "name": "unit",
    "stage": "test",
    "monitors": ["localhost", "other", "third"],
    "ports": {"prometheus": 9090, "alertmanager": 9193, "alertmanager_peers": 9094},
    "retention": {"metrics_days": 45, "metrics_gib": 10, "journal_gib": 1.5},
    "tracing": {"endpoint": "http://collector:4318/v1/traces", "protocol": "http", "sample_percent": 1},
    "monitoring": {
        "scrapes": [{"job": "vllm", "path": "/metrics", "targets": []}],
        "rules": {
            "groups": [{"name": "a", "rules": [{"alert": "A", "annotations": {"summary": "{{ $labels.pool }} burns"}}]}]
        },
    },
}
ALERTS = {
    "receivers": [{"name": "on-call", "kind": "webhook", "url": "{{ vault_hub }}"}],
    "dead_man_url": "{{ vault_hub }}",
}


def handed_over(directory: Path, play_name: str, role: str, *variables: str) -> dict[str, Any]:
    """The values of a role's variables in a play of site.yml."""
    play = next(
        play
        for play in yaml.safe_load((REPOSITORY / "playbooks/site.yml").read_text())
        if play.get("name") == play_name
    )
    given = next(entry["vars"] for entry in play["roles"] if entry["role"] == role)
    # As a registered result has it: text of the plan is data, whatever braces are in it.
    (directory / "plan.json").write_text(json.dumps(PLAN))
    plan = f"{{{{ lookup('ansible.builtin.file', '{directory}/plan.json') | from_json }}}}"
    facts = {"service_plan": plan, "vault_hub": "sesame", "service_alerts": ALERTS}
    show = {"ansible.builtin.copy": {"dest": str(directory / "values.json"), "content": "{{ __shown | to_json }}"}}
    values = {"__shown": {name: given[name] for name in variables}}
    book = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": facts | play.get("vars", {}),
            "tasks": [show | {"vars": values}],
        }
    ]
    path = directory / "play.yml"
    path.write_text(yaml.safe_dump(book))
    # Without what other tests have put there for Ansible.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["ANSIBLE_PYTHON_INTERPRETER"] = str(REPOSITORY / ".venv/bin/python")
    done = subprocess.run(
        [str(REPOSITORY / ".venv/bin/ansible-playbook"), "-i", "localhost,", str(path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown: dict[str, Any] = json.loads((directory / "values.json").read_text())
    return shown


def test_a_node_is_given_its_own_models_and_the_tokens_of_those_that_need_one(tmp_path: Path) -> None:
    shown = handed_over(tmp_path, "Serve the models", "model_store", "model_store_models", "model_store_tokens")
    assert sorted(shown["model_store_models"]) == ["gated", "open", "public"]
    assert shown["model_store_tokens"] == {"gated": "sesame"}, "a token of another node's model is not even looked up"


def test_every_node_is_given_the_bound_of_its_journal(tmp_path: Path) -> None:
    shown = handed_over(tmp_path, "Prepare every host", "base", "base_journal_max_use")
    assert shown == {"base_journal_max_use": "1536M"}


def test_engines_are_given_the_collector_of_traces(tmp_path: Path) -> None:
    shown = handed_over(tmp_path, "Serve the models", "vllm", "vllm_tracing")
    assert shown["vllm_tracing"] == {
        "endpoint": "http://collector:4318/v1/traces",
        "protocol": "http",
        "service": "unit",
    }


def test_a_monitor_is_given_the_others_and_the_secret_addresses_that_the_plan_leaves_out(tmp_path: Path) -> None:
    names = ("receivers", "dead_man_url", "smtp_host", "node_address", "peers", "peer_port", "external_url")
    shown = handed_over(tmp_path, "Watch the service", "alertmanager", *[f"alertmanager_{name}" for name in names])
    assert [shown[f"alertmanager_{name}"] for name in names] == [
        [{"name": "on-call", "kind": "webhook", "url": "sesame"}],
        "sesame",
        "",
        "fd00::1",
        ["fd00::2", "192.0.2.3"],
        9094,
        "http://[fd00::1]:9193",
    ]


def test_a_monitor_reads_and_judges_by_the_plan_and_tells_every_alertmanager(tmp_path: Path) -> None:
    names = ("scrapes", "rules", "alertmanagers", "retention_days", "retention_gib", "external_labels")
    shown = handed_over(tmp_path, "Watch the service", "prometheus", *[f"prometheus_{name}" for name in names])
    assert [shown[f"prometheus_{name}"] for name in names] == [
        PLAN["monitoring"]["scrapes"],
        PLAN["monitoring"]["rules"],
        ["[fd00::1]:9193", "[fd00::2]:9193", "192.0.2.3:9193"],
        45,
        10,
        {"service": "unit", "stage": "test", "monitor": "localhost"},
    ]


def test_an_inventory_without_hosts_is_no_success(tmp_path: Path) -> None:
    command = [str(REPOSITORY / ".venv/bin/ansible-playbook"), "-i", str(tmp_path / "nowhere"), "site.yml", "--check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "There is no host in the groups balancers, gpu_nodes and monitors" in done.stdout + done.stderr
    assert str(tmp_path / "nowhere") in done.stdout + done.stderr
