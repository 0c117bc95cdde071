"""One balancer holds the virtual address, answers there, and the check has no rights; without an address nothing runs."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

testinfra_hosts = ["ansible://balancers"]
CONFIGURATION = "/etc/keepalived/keepalived.conf"
CHECK = "/usr/local/lib/rackserve/keepalived_check.py"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def address(plan: dict[str, Any], variables: dict[str, Any]) -> str | None:
    declared = (plan.get("virtual_address") or {}).get("address") if plan else variables.get("keepalived_address")
    return str(declared) if declared else None


def holders(inventory_path: str, address: str) -> list[str]:
    hosts = testinfra.get_hosts(["ansible://balancers"], ansible_inventory=inventory_path)
    links = {host.backend.hostname: host.check_output("ip -json address show to %s", address) for host in hosts}
    return [name for name, text in links.items() if any(json.loads(text or "[]"))]


def test_it_runs_and_starts_at_boot_where_an_address_is_declared(host: Host, address: str | None) -> None:
    # By hand: testinfra's is_running raises where the unit does not exist.
    states = [host.run(f"systemctl {ask} keepalived").stdout.strip() for ask in ("is-active", "is-enabled")]
    if address:
        assert states == ["active", "enabled"]
    else:
        assert states[0] == "inactive"
        assert states[1] != "enabled"


def test_one_balancer_holds_the_address(address: str | None, inventory_path: str) -> None:
    if address:
        assert len(holders(inventory_path, address)) == 1


def test_the_address_answers(address: str | None, plan: dict[str, Any]) -> None:
    if address is None:
        return
    tls = plan.get("tls")
    context = ssl.create_default_context(cafile=str(REPOSITORY / tls["trusted_by"])) if tls else None
    port = plan["ports"]["api"] if plan else 8080
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"{'https' if tls else 'http'}://{address}:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_keepalived_accepts_what_it_runs_with(host: Host, address: str | None) -> None:
    if address:
        host.check_output("/usr/local/lib/rackserve/keepalived_accepts.py %s", CONFIGURATION)


def test_the_check_runs_without_rights_and_nobody_else_can_write_it(host: Host, address: str | None) -> None:
    if address:
        file = host.file(CHECK)
        assert (file.user, file.mode) == ("root", 0o755)
        assert host.user("keepalived_script").shell == "/usr/sbin/nologin"
        assert "unsafe" not in host.run("journalctl --unit=keepalived --output=cat --since=-1h").stdout.lower()
