"""Rules of the firewall that need no host: is the list sound, does it keep our ssh connection, do two tables agree."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

PROTOCOLS = ("tcp", "udp", "vrrp")
# Goes into an nft comment, which ends at a quote or after 128 bytes.
NAME = re.compile(r"^[A-Za-z0-9 ._:@/()-]{1,100}$")


def check_listeners(listeners: list[dict[str, Any]]) -> list[str]:
    """One sentence per mistake: place, value, what is allowed. Given the role's list as it came from the inventory."""
    problems: list[str] = []
    for number, listener in enumerate(listeners):
        place = f"firewall_listeners[{number}]"
        name, port, protocol = listener.get("name"), listener.get("port"), listener.get("protocol", "tcp")
        sources = listener.get("sources") or []
        if not isinstance(name, str) or not NAME.match(name):
            problems.append(
                f"{place}.name is {name!r}: 1 to 100 letters, digits, spaces and ._:@/()- are allowed "
                "(it stands in the rule's comment)"
            )
        if protocol == "vrrp":
            if port != 0:
                problems.append(f"{place}.port is {port!r} ({name}): vrrp has no ports, so 0 is allowed")
        elif not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            problems.append(f"{place}.port is {port!r} ({name}): a whole number from 1 to 65535 is allowed")
        if protocol not in PROTOCOLS:
            problems.append(
                f"{place}.protocol is {protocol!r} ({name}): allowed are {', '.join(PROTOCOLS[:-1])} and {PROTOCOLS[-1]}"
            )
        if not sources:
            problems.append(
                f"{place}.sources is empty ({name}): name who may connect, as addresses or networks, or write [any]; "
                "leave the listener out if nobody may"
            )
        if "any" in sources and len(sources) > 1:
            problems.append(f"{place}.sources mixes any with addresses ({name}): any alone, or addresses alone")
        for source in sources:
            if source != "any" and network(source) is None:
                problems.append(
                    f"{place}.sources has {source!r} ({name}): allowed are any, an IPv4 or IPv6 address, "
                    "or a network such as 10.0.0.0/24"
                )
    return problems


def network(source: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network a source stands for; None when it is not one (host bits set count as a mistake)."""
    try:
        return ipaddress.ip_network(str(source))
    except ValueError:
        return None


def admits(listeners: list[dict[str, Any]], client: str, port: int) -> bool:
    """Would this list let `client` open a TCP connection to `port`? Loopback is always let in."""
    # An IPv4 client of a dual-stack socket is reported as ::ffff:a.b.c.d, and filtered as IPv4.
    address = ipaddress.ip_address(client.split("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return True
    for listener in listeners:
        if listener["port"] != port or listener.get("protocol", "tcp") != "tcp":
            continue
        for source in listener["sources"]:
            allowed = network(source)
            if source == "any" or (allowed is not None and address in allowed):
                return True
    return False


def lockout(listeners: list[dict[str, Any]], client: str, port: int) -> str | None:
    """The reason not to apply the list, or None."""
    if admits(listeners, client, port):
        return None
    return (
        "firewall_listeners would cut the connection that applies it: "
        f"ssh from {client} to port {port} is not in the list. "
        f"Add {{name: ssh, port: {port}, protocol: tcp, sources: [any]}}, or sources that hold {client}"
    )


def comparable(document: dict[str, Any]) -> list[Any]:
    """What two `nft --json list table` answers share when the firewall is the same: all but handles and counters."""
    return [_strip(entry) for entry in document.get("nftables", []) if "metainfo" not in entry]


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items() if key not in ("handle", "packets", "bytes")}
    if isinstance(value, list):
        return [_strip(item) for item in value]
    return value
