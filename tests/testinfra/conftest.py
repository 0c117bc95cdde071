"""Acceptance tests: the same files verify molecule's nodes and a real rack.

    pytest tests/testinfra --ansible-inventory=inventory/rack            the whole rack
    pytest tests/testinfra/test_firewall.py --hosts='ansible://gpu_nodes' --ansible-inventory=inventory/rack

Tests choose their hosts by group (`testinfra_hosts`) and look only; what they expect comes from the inventory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def inventory_path(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("ansible_inventory") or REPOSITORY / "inventory/lab")


@pytest.fixture(scope="session")
def plan(inventory_path: str) -> dict[str, Any]:
    """The resolved service definition of the inventory; empty where it holds none (a role alone on a test node)."""
    answer = subprocess.run(
        [str(REPOSITORY / "scripts/validate"), "-i", inventory_path, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    resolved = json.loads(answer.stdout) if answer.stdout.strip() else {}
    return resolved.get("plan") or {}


@pytest.fixture
def variables(host: Host) -> dict[str, Any]:
    """What the inventory says about this host, groups included."""
    return dict(host.ansible.get_variables())


@pytest.fixture
def journal(host: Host) -> Callable[[str], str]:
    """The end of a unit's journal, for the message of a failing assertion."""

    def tail(unit: str) -> str:
        return str(host.run("journalctl --no-pager --lines 30 --unit %s", unit).stdout)

    return tail
