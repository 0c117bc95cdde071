"""One balancer holds the virtual address, answers there, and the check has no rights."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

testinfra_hosts = ["ansible://balancers"]
CONFIGURATION = "/etc/keepalived/keepalived.conf"
CHECK = "/usr/local/lib/rackserve/keepalived_check.py"


@pytest.fixture
def address(plan: dict[str, Any], variables: dict[str, Any]) -> str:
    declared = (plan.get("virtual_address") or {}).get("address") if plan else variables.get("keepalived_address")
    if not declared:
        pytest.skip("the inventory has no virtual address")
    return str(declared)


def holders(inventory_path: str, address: str) -> list[str]:
    hosts = testinfra.get_hosts(["ansible://balancers"], ansible_inventory=inventory_path)
    links = {host.backend.hostname: host.check_output("ip -json address show to %s", address) for host in hosts}
    return [name for name, text in links.items() if any(json.loads(text or "[]"))]


def test_one_balancer_holds_the_address(address: str, inventory_path: str) -> None:
    assert len(holders(inventory_path, address)) == 1


def test_the_address_answers(address: str, plan: dict[str, Any]) -> None:
    port = plan["ports"]["api"] if plan else 8080
    if plan and plan["tls"]:
        pytest.skip("asked over TLS by the end-to-end tests")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.usefixtures("address")
def test_it_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("keepalived")
    assert service.is_running
    assert service.is_enabled


@pytest.mark.usefixtures("address")
def test_nobody_preempts_and_nothing_goes_to_a_group(host: Host) -> None:
    text = host.file(CONFIGURATION).content_string
    assert "nopreempt" in text
    assert "state BACKUP" in text
    assert "unicast_peer" in text
    host.check_output("/usr/local/lib/rackserve/keepalived_accepts.py %s", CONFIGURATION)


@pytest.mark.usefixtures("address")
def test_the_check_runs_without_rights_and_nobody_else_can_write_it(host: Host) -> None:
    file = host.file(CHECK)
    assert (file.user, file.mode) == ("root", 0o755)
    assert host.user("keepalived_script").shell == "/usr/sbin/nologin"
    assert "script_user keepalived_script" in host.file(CONFIGURATION).content_string
    assert "unsafe" not in host.run("journalctl --unit=keepalived --output=cat --since=-1h").stdout.lower()
