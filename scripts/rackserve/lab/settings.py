"""Where a lab lives: its directories, its bridge, its addresses. A second lab beside the first differs only here."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rackserve.lab.errors import UsageError

# RFC 2544 sets this range aside for benchmarks: no real network uses it, so a lab cannot shadow one.
BENCHMARK_RANGE = ipaddress.IPv4Network("198.18.0.0/15")
DEFAULT_BRIDGE = "rackserve0"
ADMIN_USER = "rackadmin"


@dataclass(frozen=True)
class Settings:
    state: Path
    cache: Path
    bridge: str
    network: ipaddress.IPv4Network

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The host's own address on the bridge: the first of the network."""
        return self.network.network_address + 1

    @property
    def guarded(self) -> ipaddress.IPv4Network:
        """The range that must never leave this machine, whether the bridge is up or not."""
        return self.network.supernet(new_prefix=min(16, self.network.prefixlen))

    @property
    def table(self) -> str:
        """The lab's nftables table (family inet)."""
        return "rackserve_lab" if self.bridge == DEFAULT_BRIDGE else f"rackserve_lab_{self.bridge}"

    def machine(self, node: str) -> str:
        """The nspawn machine name: unique on this host, also when two labs have a node of the same name."""
        return node if self.bridge == DEFAULT_BRIDGE else f"{self.bridge}-{node}"

    def node_directory(self, node: str) -> Path:
        return self.state / "nodes" / node


def _directory(environment: Mapping[str, str], name: str, default: str) -> Path:
    value = environment.get(name) or default
    path = Path(value)
    # The path becomes part of overlay mount options, where these characters separate things.
    if not path.is_absolute() or re.search(r"[:,\\\s]", value) or len(path.parts) < 3:
        raise UsageError(
            f"{name}={value!r} is not usable: give an absolute path two levels deep without spaces, commas or colons, "
            f"for example {default}."
        )
    return path


def settings_from(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the lab that this environment selects."""
    bridge = environment.get("RACKSERVE_LAB_BRIDGE") or DEFAULT_BRIDGE
    if not re.fullmatch(r"[a-z][a-z0-9]{1,10}", bridge):
        raise UsageError(
            f"RACKSERVE_LAB_BRIDGE={bridge!r} is not usable: 2 to 11 lower-case letters and digits, a letter first."
        )
    text = environment.get("RACKSERVE_LAB_NETWORK") or "198.18.0.0/24"
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"RACKSERVE_LAB_NETWORK={text!r} is not a network: {error}. Example: 198.18.0.0/24.") from None
    if not network.subnet_of(BENCHMARK_RANGE) or not 16 <= network.prefixlen <= 28:
        raise UsageError(f"RACKSERVE_LAB_NETWORK={text} must be a /16 to /28 inside {BENCHMARK_RANGE}.")
    return Settings(
        state=_directory(environment, "RACKSERVE_LAB_STATE", "/var/lib/rackserve-lab"),
        cache=_directory(environment, "RACKSERVE_LAB_CACHE", "/var/cache/rackserve"),
        bridge=bridge,
        network=network,
    )
