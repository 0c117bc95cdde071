"""The probe of a GPU node: what it may, and that each engine of the node is watched, warm and up."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from testinfra.host import Host

testinfra_hosts = ["ansible://gpu_nodes"]
UNIT = "rackserve-engine-probe"


def page(host: Host, plan: dict[str, Any]) -> str:
    return str(host.check_output("curl -sf http://127.0.0.1:%s/metrics", str(plan["ports"]["probe_metrics"])))


def test_probe_and_what_restarts_engines_run_and_start_at_boot(host: Host, journal: Callable[[str], str]) -> None:
    for unit in (f"{UNIT}.service", "rackserve-engine-restart.path"):
        states = [host.run(f"systemctl {ask} {unit}").stdout.strip() for ask in ("is-active", "is-enabled")]
        assert states == ["active", "enabled"], journal(UNIT)


def test_the_probe_is_nobody_and_the_key_is_for_systemd_alone(host: Host) -> None:
    pid = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    status = host.file(f"/proc/{pid}/status").content_string
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "no capability"
    assert host.check_output("stat --format=%s /proc/%s", "%U", pid) == "rackserve-probe"
    key = host.file("/etc/rackserve/engine-probe.env")
    assert (key.user, oct(key.mode)) == ("root", "0o600")


def test_each_engine_of_the_node_is_warm_and_up(host: Host, plan: dict[str, Any], variables: dict[str, Any]) -> None:
    own = [engine["name"] for engine in plan["engines"] if engine["node"] == variables["inventory_hostname"]]
    text = page(host, plan)
    up = dict(re.findall(r'^rackserve_probe_up\{engine="([^"]+)",[^}]*\} (\S+)$', text, re.MULTILINE))
    assert up == dict.fromkeys(own, "1.0")
    warm = re.findall(r'^rackserve_probe_longest_step_seconds\{engine="([^"]+)",', text, re.MULTILINE)
    assert sorted(warm) == sorted(own)
