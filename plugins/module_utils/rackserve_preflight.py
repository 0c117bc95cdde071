"""The rules of preflight: facts of a node and what is wanted from it in, list of problems out. Reads nothing itself."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any

# What the distributions ship, for a node whose package lists were never fetched.
HAPROXY_OF = {"debian-12": "2.6", "debian-13": "3.0", "ubuntu-22.04": "2.4", "ubuntu-24.04": "2.8"}


def problem(check: str, found: object, wanted: object, remedy: str) -> dict[str, str]:
    return {"check": check, "found": str(found), "wanted": str(wanted), "remedy": remedy}


def version(text: str) -> tuple[int, ...]:
    """Debian's `1:2.6.12-1+deb12u2` as (2, 6, 12)."""
    upstream = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in upstream.group(1).split(".")) if upstream else ()


def os_id(facts: dict[str, Any]) -> str:
    return f"{facts['os']['id']}-{facts['os']['version']}"


def operating_system(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    if os_id(facts) in want["supported_os"]:
        return []
    return [
        problem(
            "os",
            f"{facts['os']['name']} ({os_id(facts)})",
            "one of " + ", ".join(want["supported_os"]),
            "install one of them on this host, or take it out of the inventory",
        )
    ]


def architecture(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    if facts["architecture"] in want["architectures"]:
        return []
    wanted = "one of " + ", ".join(want["architectures"])
    return [
        problem(
            "architecture",
            facts["architecture"],
            wanted,
            "use a host with such a processor; engines exist for no other",
        )
    ]


def init(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    if facts["init"] == "systemd":
        return []
    return [
        problem("init", facts["init"], "systemd as process 1", "boot the host with systemd; a container needs its init")
    ]


def haproxy(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    if not want["balancer"]:
        return []
    candidate = facts["haproxy_candidate"] or HAPROXY_OF.get(os_id(facts), "")
    if version(candidate) >= version(want["haproxy_minimum"]):
        return []
    return [
        problem(
            "haproxy",
            f"HAProxy {candidate or 'in no package source'} on {facts['os']['name']}",
            f"HAProxy {want['haproxy_minimum']} or newer on a balancer",
            "use Debian 13 or Ubuntu 24.04 for this balancer, or first configure a package source with a newer HAProxy "
            "on it (Debian 12: bookworm-backports, pinned for haproxy; Ubuntu 22.04: the HAProxy packagers' PPA)",
        )
    ]


def clock(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    time = facts["time"]
    # No time service at all is no problem yet: installing one is the job of a role that runs after this.
    if not want["time_sync"] or facts["container"] or time["synchronised"] or not time["service"]:
        return []
    return [
        problem(
            "time sync",
            f"{time['service']} runs and has not synchronised the clock",
            "a synchronised clock",
            "see `timedatectl` and `chronyc sources` on the host: usually its time servers cannot be reached; "
            "where nothing can be done about it, set preflight_time_sync: false",
        )
    ]


def disks(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    problems = []
    for disk in want["disks"]:
        state = facts["disks"][disk["path"]]
        gib = disk["reserve_gib"] if state["in_use"] else disk["free_gib"]
        free = state["free_bytes"] / 2**30
        if free < gib:
            problems.append(
                problem(
                    f"disk {disk['path']}",
                    f"{free:.1f} GiB free (file system at {state['mount']})",
                    f"{gib:g} GiB free "
                    + ("in reserve, beside what is installed" if state["in_use"] else "for the first installation"),
                    f"free space on {state['mount']}, mount a larger disk at {disk['path']}, "
                    "or lower its entry in preflight_disks",
                )
            )
    return problems


def memory(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    found = facts["memory_bytes"] / 2**30
    # Firmware and kernel keep a part: a server sold with 64 GiB shows 62.
    if found >= want["min_memory_gib"] * 0.95:
        return []
    return [
        problem(
            "memory",
            f"{found:.1f} GiB",
            f"{want['min_memory_gib']:g} GiB",
            "correct node_memory_gib of this host in the inventory, or look for a broken module (`dmidecode -t 17`)",
        )
    ]


def gpus(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    expected, found = want["expected_gpus"], facts["gpus"]
    if expected is None or found == expected:
        return []
    remedy = f"correct node_gpus of this host in the inventory to {found}"
    if found < expected:
        remedy = (
            "look for a GPU that fell off the bus (`lspci -d 10de:`, `dmesg | grep -i xid`), reseat or power-cycle; "
            f"if the host has {found}, {remedy}"
        )
    return [problem("gpus", f"{found} NVIDIA GPUs on the PCI bus", f"{expected}", remedy)]


def open_files(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    if facts["open_files"] >= want["min_open_files"]:
        return []
    return [
        problem(
            "open files",
            f"services may open {facts['open_files']} files",
            f"{want['min_open_files']}",
            "raise fs.nr_open, or in a container the limit of its host (LimitNOFILE of the unit that runs it)",
        )
    ]


def ports(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    problems = []
    for listener in want["listeners"]:
        port, protocol = int(listener["port"]), listener.get("protocol", "tcp")
        taken = {
            (socket["process"], socket["unit"], socket["pid"])
            for socket in facts["sockets"]
            if (socket["port"], socket["protocol"]) == (port, protocol)
            and not any(fnmatch.fnmatch(socket["unit"], pattern) for pattern in want["own_units"])
        }
        for process, unit, pid in sorted(taken, key=str):
            owner = f"{process} (pid {pid}" + (f", {unit})" if unit else ")")
            problems.append(
                problem(
                    f"port {port}/{protocol}",
                    f"taken by {owner}",
                    f"free for {listener['name']}",
                    (
                        f"stop it (`systemctl disable --now {unit}`)"
                        if unit.endswith(".service")
                        else f"stop it (`kill {pid}`)"
                    )
                    + ", or give the listener another port in the service definition",
                )
            )
    return problems


# In the order in which a person would look.
RULES: list[Callable[[dict[str, Any], dict[str, Any]], list[dict[str, str]]]] = [
    operating_system,
    architecture,
    init,
    haproxy,
    clock,
    memory,
    gpus,
    disks,
    open_files,
    ports,
]


def judge(facts: dict[str, Any], want: dict[str, Any]) -> list[dict[str, str]]:
    """Every problem of a node. Given its facts and the module's parameters; both are only read."""
    return [found for rule in RULES for found in rule(facts, want)]
