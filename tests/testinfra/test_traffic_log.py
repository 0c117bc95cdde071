"""The log service of a balancer: what it may, who reads its files, and that a request reaches file and page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from testinfra.host import Host

testinfra_hosts = ["ansible://balancers"]
UNIT = "rackserve-traffic-log"
FILES = "/var/log/rackserve/requests"


def page(host: Host, plan: dict[str, Any]) -> str:
    return str(host.check_output("curl -sf http://127.0.0.1:%s/metrics", str(plan["ports"]["traffic"])))


def test_socket_and_service_run_and_start_at_boot(host: Host, journal: Callable[[str], str]) -> None:
    for unit in (f"{UNIT}.socket", f"{UNIT}.service"):
        states = [host.run(f"systemctl {ask} {unit}").stdout.strip() for ask in ("is-active", "is-enabled")]
        assert states == ["active", "enabled"], journal(UNIT)


def test_the_service_is_nobody_and_only_the_group_reads_the_lines(host: Host) -> None:
    pid = host.check_output(f"systemctl show --property=MainPID --value {UNIT}")
    status = host.file(f"/proc/{pid}/status").content_string
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "no capability"
    assert host.check_output("ps -o user= -p %s", pid).strip() == "rackserve-log"
    directory = host.file(FILES)
    assert (directory.user, directory.group, oct(directory.mode)) == ("rackserve-log", "rackserve", "0o750")
    for name in host.check_output(f"ls {FILES}").split():
        assert oct(host.file(f"{FILES}/{name}").mode) == "0o640", name


def test_a_request_is_written_down_and_counted(host: Host, plan: dict[str, Any], variables: dict[str, Any]) -> None:
    def read() -> float:
        found = re.search(r'^rackserve_log_lines_total\{state="read"\} (\S+)$', page(host, plan), re.MULTILINE)
        assert found
        return float(found[1])

    before, marker = read(), f"testinfra-{variables['inventory_hostname']}-{id(host)}"
    scheme = "https" if plan["tls"] else "http"
    host.check_output(
        "curl -sk -H 'x-request-id: %s' %s://127.0.0.1:%s/marker", marker, scheme, str(plan["ports"]["api"])
    )
    host.check_output(
        f"for attempt in 1 2 3 4 5 6 7 8 9 10; do grep --quiet --fixed-strings %s {FILES}/*.jsonl && exit 0; sleep 0.2; done; exit 1",
        marker,
    )
    assert read() > before
