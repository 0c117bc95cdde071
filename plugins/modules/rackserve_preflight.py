#!/usr/bin/python
"""Looks at a node and says everything that would stop an installation. Changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_preflight
short_description: Say everything that would stop an installation on this node, without changing it
description:
  - Called through the action plugin of the same name, which adds what only the controller sees (ssh, sudo, clock).
  - The rules are in C(module_utils/rackserve_preflight.py).
options:
  supported_os: {description: "C(<id>-<version>) as in C(/etc/os-release).", type: list, elements: str, required: true}
  architectures: {description: As C(uname -m) says it., type: list, elements: str, required: true}
  balancer: {description: The node needs HAProxy., type: bool, required: true}
  haproxy_minimum: {description: Oldest HAProxy., type: str, required: true}
  disks: {description: Free space per path., type: list, elements: dict, required: true}
  listeners: {description: What will listen on the node., type: list, elements: dict, required: true}
  own_units: {description: Units that may hold those ports already., type: list, elements: str, required: true}
  min_memory_gib: {description: Memory., type: float, required: true}
  expected_gpus: {description: "NVIDIA GPUs, exactly. Empty: any.", type: int}
  min_open_files: {description: Open files a service may have., type: int, required: true}
  time_sync: {description: A time service that runs has to have synchronised., type: bool, required: true}
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Look at the node
  rackserve_preflight:
    balancer: true
"""

RETURN = r"""
problems:
  description: One entry per problem with C(check), C(found), C(wanted) and C(remedy).
  returned: always
  type: list
  elements: dict
  sample: []
facts:
  description: What was found.
  returned: always
  type: dict
  sample: {}
"""

import glob  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.rackserve_preflight import judge  # noqa: E402

LISTEN = "0A"
TIME_SERVICES = ["chrony.service", "chronyd.service", "systemd-timesyncd.service", "ntpsec.service", "ntp.service"]


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def os_release() -> dict[str, str]:
    fields = dict(re.findall(r'^(\w+)="?(.*?)"?$', read("/etc/os-release"), re.MULTILINE))
    return {
        "id": fields.get("ID", "unknown"),
        "version": fields.get("VERSION_ID", "unknown"),
        "name": fields.get("PRETTY_NAME", "unknown"),
    }


def first_existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def mount_of(path: str) -> str:
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def disk(path: str) -> dict[str, Any]:
    existing = first_existing(path)
    space = os.statvfs(existing)
    return {
        "free_bytes": space.f_bavail * space.f_frsize,
        "mount": mount_of(existing),
        "in_use": os.path.isdir(path) and bool(os.listdir(path)),
    }


def gpus(container: str) -> int:
    """From the PCI bus, so that no driver is needed. A container sees its host's bus, but only its own device nodes."""
    if container:
        return len(glob.glob("/dev/nvidia[0-9]*"))
    found = 0
    for device in glob.glob("/sys/bus/pci/devices/*"):
        # 0x0300 display, 0x0302 compute; audio and USB functions of the same card have other classes.
        if read(f"{device}/vendor").strip() == "0x10de" and read(f"{device}/class").startswith(("0x0300", "0x0302")):
            found += 1
    return found


def listening() -> dict[str, list[tuple[str, int]]]:
    """inode -> (protocol, port) of everything that waits for somebody."""
    sockets: dict[str, list[tuple[str, int]]] = {}
    for protocol in ("tcp", "udp"):
        for table in (protocol, f"{protocol}6"):
            for line in read(f"/proc/net/{table}").splitlines()[1:]:
                fields = line.split()
                # A UDP socket listens when it has no peer; a TCP socket says so.
                if fields[3] == LISTEN or (protocol == "udp" and int(fields[2].rpartition(":")[2], 16) == 0):
                    sockets.setdefault(fields[9], []).append((protocol, int(fields[1].rpartition(":")[2], 16)))
    return sockets


def unit_of(pid: str) -> str:
    """The last part of the cgroup path that is a unit: `0::/system.slice/system-vllm.slice/vllm@a.service`."""
    units = re.findall(r"/([^/\n]+\.(?:service|socket|scope))(?=[/\n]|$)", read(f"/proc/{pid}/cgroup"))
    return units[-1] if units else ""


def socket_units(module: AnsibleModule) -> dict[int, str]:
    """Ports that systemd itself holds for a socket unit (ssh on newer Ubuntu)."""
    _, out, _ = module.run_command(["systemctl", "list-sockets", "--no-legend", "--full"])
    return {int(port): unit for port, unit in re.findall(r"^\S*:(\d+)\s+(\S+\.socket)", out, re.MULTILINE)}


def sockets(module: AnsibleModule, wanted: set[int]) -> list[dict[str, Any]]:
    """The listening sockets on wanted ports with their owners. Walks /proc only when there is one."""
    inodes = {inode: found for inode, all_of in listening().items() if (found := [s for s in all_of if s[1] in wanted])}
    owners: dict[str, str] = {}
    if inodes:
        for link in glob.iglob("/proc/[0-9]*/fd/*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            inode = target[8:-1] if target.startswith("socket:[") else ""
            # systemd keeps a copy of what it passes on; the process that serves is the owner.
            if inode in inodes and owners.get(inode, "1") == "1":
                owners[inode] = link.split("/")[2]
    activated = socket_units(module) if "1" in owners.values() else {}
    return [
        {
            "protocol": protocol,
            "port": port,
            "pid": int(owners.get(inode, 0)),
            "process": read(f"/proc/{owners.get(inode)}/comm").strip() or "a process outside this container",
            "unit": activated.get(port, "") if owners.get(inode) == "1" else unit_of(owners.get(inode, "0")),
        }
        for inode, found in inodes.items()
        for protocol, port in found
    ]


def haproxy_candidate(module: AnsibleModule) -> str:
    status, out, _ = module.run_command(["apt-cache", "policy", "haproxy"], environ_update={"LC_ALL": "C"})
    candidate = re.search(r"Candidate: (\S+)", out) if status == 0 else None
    return candidate.group(1) if candidate and candidate.group(1) != "(none)" else ""


def time_state(module: AnsibleModule) -> dict[str, Any]:
    _, out, _ = module.run_command(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    _, active, _ = module.run_command(["systemctl", "is-active", *TIME_SERVICES])
    running = [unit for unit, state in zip(TIME_SERVICES, active.split(), strict=False) if state == "active"]
    return {"synchronised": out.strip() == "yes", "service": running[0] if running else ""}


def gather(module: AnsibleModule) -> dict[str, Any]:
    want = module.params
    _, container, _ = module.run_command(["systemd-detect-virt", "--container"])
    container = "" if container.strip() in ("", "none") else container.strip()
    memory = re.search(r"^MemTotal:\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    limit = re.search(r"^Max open files\s+\S+\s+(\d+)", read("/proc/1/limits"), re.MULTILINE)
    return {
        "os": os_release(),
        "architecture": platform.machine(),
        "init": "systemd" if os.path.isdir("/run/systemd/system") else read("/proc/1/comm").strip(),
        "container": container,
        "time": {"synchronised": True, "service": ""} if container else time_state(module),
        "haproxy_candidate": haproxy_candidate(module) if want["balancer"] else "",
        "disks": {entry["path"]: disk(entry["path"]) for entry in want["disks"]},
        "memory_bytes": int(memory.group(1)) * 1024 if memory else 0,
        "gpus": gpus(container),
        "open_files": int(limit.group(1)) if limit else 0,
        "sockets": sockets(module, {int(listener["port"]) for listener in want["listeners"]}),
    }


def main() -> None:
    disk_options = {
        "path": {"type": "path", "required": True},
        "free_gib": {"type": "float", "required": True},
        "reserve_gib": {"type": "float", "default": 1.0},
    }
    module = AnsibleModule(
        argument_spec={
            "supported_os": {"type": "list", "elements": "str", "required": True},
            "architectures": {"type": "list", "elements": "str", "required": True},
            "balancer": {"type": "bool", "required": True},
            "haproxy_minimum": {"type": "str", "required": True},
            "disks": {"type": "list", "elements": "dict", "required": True, "options": disk_options},
            "listeners": {"type": "list", "elements": "dict", "required": True},
            "own_units": {"type": "list", "elements": "str", "required": True},
            "min_memory_gib": {"type": "float", "required": True},
            "expected_gpus": {"type": "int"},
            "min_open_files": {"type": "int", "required": True},
            "time_sync": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    now = time.time()
    facts = gather(module)
    module.exit_json(changed=False, now=now, facts=facts, problems=judge(facts, module.params))


if __name__ == "__main__":
    main()
