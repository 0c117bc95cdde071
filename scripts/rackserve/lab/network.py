"""The lab's private network: a bridge with the host's address, NAT for downloads, and a route that keeps traffic in.

Everything here can be called again: it looks at the kernel's state and adds what is missing.
"""

import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackserve.lab.commands import run
from rackserve.lab.errors import LabError, RefusedError
from rackserve.lab.settings import Settings

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
# Which labs need forwarding, and what it was before the first. In /run: it lives exactly as long as the kernel setting.
FORWARDING_USERS = Path("/run/rackserve-lab.json")
# Worse than any real route, so it only speaks when the bridge's own route is gone. Two labs in one range differ in it.
_UNREACHABLE_METRIC = 4278190000
_MOVE = "Set RACKSERVE_LAB_NETWORK and the inventory's ansible_host to a free one, for example 198.19.0.0/24."


def _ip(*arguments: str) -> list[dict[str, Any]]:
    text = run(["ip", "-json", *arguments]).stdout.strip()
    return [entry for entry in json.loads(text or "[]") if entry]


def _exists(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


def default_interface() -> str | None:
    """Where this machine reaches the outside, None when it does not."""
    routes = _ip("-4", "route", "show", "default")
    return min(routes, key=lambda route: route.get("metric", 0))["dev"] if routes else None


def mtu_of(interface: str | None) -> int:
    """A node must not send what the way out cannot carry."""
    return int(Path(f"/sys/class/net/{interface}/mtu").read_text()) if interface else 1500


def _addresses(interface: str) -> list[ipaddress.IPv4Interface]:
    return [
        ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}")
        for entry in _ip("-4", "address", "show", "dev", interface)
        for address in entry.get("addr_info", [])
    ]


def check_clash(settings: Settings) -> None:
    """Refuse when the lab's addresses are in use on this machine by something that is not the lab."""
    own = ipaddress.IPv4Interface(f"{settings.gateway}/{settings.network.prefixlen}")
    if _exists(settings.bridge):
        if not Path(f"/sys/class/net/{settings.bridge}/bridge").exists():
            raise RefusedError(
                f"interface {settings.bridge} exists and is no bridge. Rename it or set RACKSERVE_LAB_BRIDGE."
            )
        foreign = [address for address in _addresses(settings.bridge) if address != own]
        if foreign:
            raise RefusedError(
                f"bridge {settings.bridge} exists with address {foreign[0]}, the lab's is {own}. It belongs to "
                "another lab: set RACKSERVE_LAB_BRIDGE to another name, or RACKSERVE_LAB_NETWORK to its network."
            )
    for entry in _ip("-4", "address", "show"):
        for address in entry.get("addr_info", []):
            other = ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}")
            if entry["ifname"] != settings.bridge and other.network.overlaps(settings.network):
                raise RefusedError(
                    f"interface {entry['ifname']} has {other}, which overlaps the lab's network "
                    f"{settings.network}. {_MOVE}"
                )
    for route in _ip("-4", "route", "show", "table", "all"):
        target = route.get("dst", "default")
        if target == "default" or route.get("dev") == settings.bridge or route.get("metric") == _metric(settings):
            continue
        other_network = ipaddress.IPv4Network(target, strict=False)
        # Broader than a /8 is a default route in disguise: it stays what it is for every other address.
        if other_network.prefixlen < 8 or not other_network.overlaps(settings.network):
            continue
        if route.get("type", "unicast") == "unicast":
            raise RefusedError(
                f"this machine has a route to {other_network} through {route.get('dev', 'a gateway')}, which overlaps "
                f"the lab's network {settings.network}. {_MOVE}"
            )


def _metric(settings: Settings) -> int:
    return _UNREACHABLE_METRIC + int(settings.network.network_address) // 256 % 256


def _has_unreachable_route(settings: Settings) -> bool:
    routes = _ip("-4", "route", "show", "type", "unreachable")
    return any(r.get("dst") == str(settings.guarded) and r.get("metric") == _metric(settings) for r in routes)


def ruleset(settings: Settings, outside: str | None) -> str:
    """The lab's table. Written as a whole in one transaction, so there is never half of it."""
    masquerade = f'    ip saddr {settings.network} oifname "{outside}" masquerade\n' if outside else ""
    return (
        f"table inet {settings.table}\n"
        f"delete table inet {settings.table}\n"
        f"table inet {settings.table} {{\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f"{masquerade}"
        "  }\n"
        "}\n"
    )


def _has_table(settings: Settings, outside: str | None) -> bool:
    listed = run(["nft", "list", "table", "inet", settings.table], accept=(0, 1))
    return listed.returncode == 0 and (outside is None or f'oifname "{outside}" masquerade' in listed.stdout)


@dataclass
class _ForwardingUsers:
    previous: str
    bridges: list[str]


@contextmanager
def _forwarding_users() -> Iterator[_ForwardingUsers]:
    """Read, let the caller change, and write back the list; the file is gone when the list is empty."""
    while True:
        handle = os.open(FORWARDING_USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if FORWARDING_USERS.exists() and os.stat(FORWARDING_USERS).st_ino == os.fstat(handle).st_ino:
            break
        os.close(handle)
    try:
        text = os.pread(handle, 65536, 0).decode()
        data: dict[str, Any] = json.loads(text) if text else {"previous": FORWARDING.read_text().strip(), "bridges": []}
        # A lab that is gone without `down` (its bridge does not exist) needs nothing any more.
        users = _ForwardingUsers(data["previous"], [bridge for bridge in data["bridges"] if _exists(bridge)])
        yield users
        if users.bridges:
            body = json.dumps({"previous": users.previous, "bridges": users.bridges}).encode()
            os.pwrite(handle, body, 0)
            os.truncate(handle, len(body))
        else:
            FORWARDING_USERS.unlink()
    finally:
        os.close(handle)


def _forwarding_bridges() -> list[str]:
    try:
        return list(json.loads(FORWARDING_USERS.read_text())["bridges"])
    except FileNotFoundError:
        return []


def _forward(settings: Settings) -> None:
    with _forwarding_users() as users:
        users.bridges = sorted({*users.bridges, settings.bridge})
    # The old value is on disk before the setting changes.
    if FORWARDING.read_text().strip() != "1":
        FORWARDING.write_text("1\n")


def _stop_forwarding(settings: Settings) -> None:
    if not FORWARDING_USERS.exists():
        return
    with _forwarding_users() as users:
        users.bridges = [bridge for bridge in users.bridges if bridge != settings.bridge]
        if not users.bridges and FORWARDING.read_text().strip() != users.previous:
            FORWARDING.write_text(f"{users.previous}\n")


def is_up(settings: Settings) -> bool:
    """Everything of the network stands."""
    if not _exists(settings.bridge) or FORWARDING.read_text().strip() != "1":
        return False
    own = ipaddress.IPv4Interface(f"{settings.gateway}/{settings.network.prefixlen}")
    return (
        own in _addresses(settings.bridge)
        and _has_unreachable_route(settings)
        and _has_table(settings, default_interface())
        and settings.bridge in _forwarding_bridges()
    )


def up(settings: Settings) -> None:
    outside = default_interface()
    if not _has_unreachable_route(settings):
        # First: from here on nothing for the lab's range can leave, whatever happens to the rest.
        run(["ip", "route", "add", "unreachable", str(settings.guarded), "metric", str(_metric(settings))])
    if not _exists(settings.bridge):
        # Nodes are heard at once (no spanning tree delay); there is one switch, so no loop.
        run(["ip", "link", "add", settings.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0"])
    own = ipaddress.IPv4Interface(f"{settings.gateway}/{settings.network.prefixlen}")
    if own not in _addresses(settings.bridge):
        run(["ip", "address", "add", str(own), "dev", settings.bridge])
    run(["ip", "link", "set", settings.bridge, "mtu", str(mtu_of(outside)), "up"])
    if not _has_table(settings, outside):
        run(["nft", "-f", "-"], stdin=ruleset(settings, outside))
    _forward(settings)


def down(settings: Settings) -> None:
    """Take the network away; what is not there is not an error."""
    _stop_forwarding(settings)
    if _has_table(settings, None):
        run(["nft", "delete", "table", "inet", settings.table])
    if _exists(settings.bridge):
        run(["ip", "link", "delete", settings.bridge])
    if _has_unreachable_route(settings):
        run(["ip", "route", "delete", "unreachable", str(settings.guarded), "metric", str(_metric(settings))])


def leftovers(settings: Settings) -> list[str]:
    """What of the network exists, in words."""
    found = []
    if _exists(settings.bridge):
        found.append(f"bridge {settings.bridge}")
    if _has_table(settings, None):
        found.append(f"nftables table inet {settings.table}")
    if _has_unreachable_route(settings):
        found.append(f"unreachable route {settings.guarded}")
    return found


def host_interface(leader: int) -> str:
    """The host's end of a node's cable, given the node's PID 1. Its bridge port can be taken down or shaped."""
    try:
        index = Path(f"/proc/{leader}/root/sys/class/net/host0/iflink").read_text().strip()
    except OSError as error:
        raise LabError(f"node with PID 1 = {leader} has no network interface host0: {error.strerror}.") from None
    for interface in Path("/sys/class/net").iterdir():
        if (interface / "ifindex").read_text().strip() == index:
            return interface.name
    raise LabError(f"node with PID 1 = {leader}: no interface of this machine has number {index}.")
