"""Who can connect to what, tried for real: from this machine and from every other node to every port of every node."""

from __future__ import annotations

import ipaddress
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

# Answers "open", "refused" (nothing listens, and the firewall let us find that out) or "filtered" per (address, port).
PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def probe(target):
    try:
        socket.create_connection(tuple(target), timeout=2).close()
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return "filtered" if isinstance(error, TimeoutError) else str(error)
targets = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(probe, targets))))
"""
# In nobody's list, and no service of any distribution.
UNLISTED_PORT = 64999


@pytest.fixture
def listeners(plan: dict[str, Any], variables: dict[str, Any]) -> list[dict[str, Any]]:
    found = (
        plan["nodes"].get(variables["inventory_hostname"], {}).get("listeners", [])
        if plan
        else variables.get("firewall_listeners", [])
    )
    assert found, f"the inventory has no listeners for {variables['inventory_hostname']}"
    return list(found)


def address_of(variables: dict[str, Any]) -> str:
    return str(variables.get("ansible_host", variables["inventory_hostname"]))


def nodes(inventory_path: str) -> dict[str, tuple[Host, str]]:
    hosts = testinfra.get_hosts(["ansible://all"], ansible_inventory=inventory_path)
    return {
        host.backend.hostname: (host, address_of(host.ansible.get_variables()))
        for host in hosts
        if host.backend.hostname != "localhost"
    }


def ask(prober: Host | None, targets: list[tuple[str, int]]) -> list[str]:
    question = json.dumps(targets)
    if prober is None:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE, question], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    else:
        answer = prober.check_output("python3 -c %s %s", PROBE, question)
    return list(json.loads(answer))


def own_address_towards(address: str, prober: Host | None) -> str | None:
    """The address under which the prober would arrive; None when it has no way there (IPv6 on one of the two only)."""
    command = f"ip -json route get {shlex.quote(address)}"
    if prober is None:
        answer = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=10, check=False)
        status, out = answer.returncode, answer.stdout
    else:
        remote = prober.run(command)
        status, out = remote.rc, remote.stdout
    return str(json.loads(out)[0]["prefsrc"]) if status == 0 else None


def addresses(host: Host, variables: dict[str, Any]) -> list[str]:
    """Where the node can be reached: the address of the inventory, and its IPv6 addresses if it has any."""
    links = json.loads(host.check_output("ip -json -6 address show scope global"))
    return [address_of(variables), *[entry["local"] for link in links for entry in link.get("addr_info", [])]]


def listening_ports(host: Host) -> set[int]:
    """TCP ports on which something waits for others than the node itself."""
    lines = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    local = [line.split()[3].rpartition(":") for line in lines]
    return {int(port) for address, _, port in local if not address.startswith(("127.", "[::1]", "[::ffff:127."))}


def allowed(listeners: list[dict[str, Any]], port: int, client: str) -> bool:
    address = ipaddress.ip_address(client)
    return any(
        source == "any" or address in ipaddress.ip_network(source)
        for listener in listeners
        if listener["port"] == port and listener.get("protocol", "tcp") == "tcp"
        for source in listener["sources"]
    )


def test_every_port_is_reached_by_its_sources_and_by_nobody_else(
    host: Host, listeners: list[dict[str, Any]], variables: dict[str, Any], inventory_path: str
) -> None:
    name = variables["inventory_hostname"]
    ports = sorted({int(entry["port"]) for entry in listeners if entry.get("protocol", "tcp") == "tcp"})
    listening = listening_ports(host)
    probers: dict[str, Host | None] = {"this machine": None}
    probers |= {other: prober for other, (prober, _) in nodes(inventory_path).items() if other != name}

    def wrong_from(prober_name: str) -> list[str]:
        prober, wrong = probers[prober_name], []
        # A rack's nodes share a network; what this machine calls IPv6 may lead anywhere.
        for target in targets if prober else targets[:1]:
            if (client := own_address_towards(target, prober)) is None:
                continue
            questions = [(target, port) for port in [*ports, UNLISTED_PORT]]
            for (_, port), answer in zip(questions, ask(prober, questions), strict=True):
                expected = {"filtered"}
                if allowed(listeners, port, client):
                    # A service that is not started says "refused": the firewall let us ask.
                    expected = {"open"} if port in listening else {"refused"}
                if answer not in expected:
                    wrong.append(f"{prober_name} ({client}) -> {name} {target}:{port}: {answer}, not {expected}")
        return wrong

    targets = addresses(host, variables)
    # Each waits out the time of ports that do not answer.
    with ThreadPoolExecutor(8) as pool:
        wrong = [one for every in pool.map(wrong_from, probers) for one in every]
    assert not wrong, "\n".join(wrong)


def test_what_is_not_listed_is_dropped_counted_and_not_answered(
    host: Host, variables: dict[str, Any], inventory_path: str
) -> None:
    before = dropped(host)
    assert ask(None, [(address_of(variables), UNLISTED_PORT)]) == ["filtered"]
    assert dropped(host) > before


def dropped(host: Host) -> int:
    rules = json.loads(host.check_output("nft --json list chain inet rackserve input"))["nftables"]
    last = [entry["rule"] for entry in rules if "rule" in entry][-1]
    assert {"drop": None} in last["expr"], "the last rule drops what no other took"
    return sum(part["counter"]["packets"] for part in last["expr"] if "counter" in part)


def test_the_table_is_loaded_again_at_boot(host: Host) -> None:
    unit = host.service("rackserve-firewall")
    assert unit.is_enabled
    assert unit.is_running
    host.check_output("nft --check --file /etc/rackserve/firewall.nft")
    ordering = host.check_output("systemctl show rackserve-firewall --property=Before --value").split()
    assert "network-pre.target" in ordering, "the node would be open while it boots"
