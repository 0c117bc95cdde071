"""Checks of the inventory's hosts and of service_ports."""

from collections.abc import Iterator

from rackserve.definition import ports
from rackserve.definition.problem import Problem
from rackserve.definition.raw import BALANCERS, GPU_NODES, MONITORS
from rackserve.definition.read import Definition


def groups_are_filled(definition: Definition) -> Iterator[Problem]:
    """Without balancers nobody is answered, without gpu_nodes nothing is served. Monitors may be missing."""
    for group, sense in ((BALANCERS, "receive the requests"), (GPU_NODES, "run the engines")):
        if not definition.members(group):
            yield Problem(
                (),
                f"the group {group} has no hosts",
                f"at least one host in {group}",
                f"add the hosts that {sense} to {group} in hosts.yml",
            )
    if not definition.members(MONITORS):
        yield Problem(
            (),
            f"the group {MONITORS} has no hosts, so nothing is measured",
            remedy=f"add a host to {MONITORS} in hosts.yml",
            severity="warning",
        )


def addresses_are_unique(definition: Definition) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, node in definition.nodes.items():
        first = seen.setdefault(node.address, name)
        if first != name:
            yield Problem(
                ("host", name, "ansible_host"),
                f"has the address of {first}",
                "one host name per server; it may be in several groups",
                "correct the address, or put the one host into both groups",
                node.address,
            )
    virtual = definition.service.virtual_address
    if virtual is not None and virtual.address in seen:
        yield Problem(
            ("service_virtual_address", "address"),
            f"is the address of the host {seen[virtual.address]}",
            "an address that no host has",
            value=virtual.address,
        )


def ports_differ(definition: Definition) -> Iterator[Problem]:
    """Every port of service_ports is one of its own, and none is that of ssh where it is used."""
    given = definition.service.ports
    seen: dict[int, str] = {}
    for key, meaning in ports.MEANINGS.items():
        port = getattr(given, key)
        first = seen.setdefault(port, meaning)
        if first != meaning:
            yield _taken(key, f"is also {first}", port)
    for name, node in definition.nodes.items():
        for key, port in ports.of_node(definition, name).items():
            if node.ssh_port == port:
                yield _taken(key, f"is the port of ssh on {name}", port)


def _taken(key: str, message: str, port: int) -> Problem:
    return Problem(("service_ports", key), message, "a port of its own", "choose another port", str(port))
