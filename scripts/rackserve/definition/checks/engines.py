"""Checks of where engines run: nodes, ports, devices, shares of memory."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rackserve.definition import ports, wording
from rackserve.definition.models.pool import Engine, Pool
from rackserve.definition.problem import Path, Problem, count
from rackserve.definition.raw import GPU_NODES
from rackserve.definition.read import Definition

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Placed:
    """An engine with its pool and the key path at which it stands."""

    pool_name: str
    pool: Pool
    engine: Engine
    path: Path

    @property
    def share(self) -> float | None:
        return self.pool.memory_share if self.engine.memory_share is None else self.engine.memory_share


def placed(definition: Definition) -> Iterator[Placed]:
    for name, pool in definition.service.pools.items():
        for number, engine in enumerate(pool.engines):
            yield Placed(name, pool, engine, ("service_pools", name, "engines", number))


def nodes_exist(definition: Definition) -> Iterator[Problem]:
    members = definition.members(GPU_NODES)
    for one in placed(definition):
        if members and one.engine.node not in members:
            yield wording.unknown(
                (*one.path, "node"),
                "host in the group gpu_nodes called",
                one.engine.node,
                members,
                "correct the name, or add the host to gpu_nodes in hosts.yml",
            )


def names_are_unique(definition: Definition) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for one in placed(definition):
        first = seen.setdefault(one.engine.name, one.pool_name)
        if (
            seen[one.engine.name] != one.pool_name
            or [e.name for e in one.pool.engines].index(one.engine.name) != one.path[-1]
        ):
            yield Problem(
                (*one.path, "name"),
                f"is also the name of an engine of pool {first}",
                "names that are unique in the whole service",
                f"name it after pool and node, such as {one.pool_name}-{one.engine.node}",
                f'"{one.engine.name}"',
            )


def ports_are_free(definition: Definition) -> Iterator[Problem]:
    """No two listeners on one port of a node: engines, balancer, monitor, ssh."""
    for node_name, node in definition.nodes.items():
        taken = {node.ssh_port: "ssh"}
        taken |= {port: f"service_ports.{key}" for key, port in ports.of_node(definition, node_name).items()}
        for one in placed(definition):
            if one.engine.node != node_name:
                continue
            if one.engine.port in taken:
                yield Problem(
                    (*one.path, "port"),
                    f"port {one.engine.port} of {node_name} is taken by {taken[one.engine.port]}",
                    "one listener per port and node",
                    f"choose another port, such as {_free_port(taken, one.engine.port)}",
                    str(one.engine.port),
                )
            taken.setdefault(one.engine.port, f"engine {one.engine.name}")


def _free_port(taken: dict[int, str], port: int) -> int:
    return next((other for other in range(port + 1, 65536) if other not in taken), 8001)


def devices_exist(definition: Definition) -> Iterator[Problem]:
    for one in placed(definition):
        node = definition.nodes.get(one.engine.node) if one.engine.node in definition.members(GPU_NODES) else None
        gpus, wanted = one.engine.gpus, one.pool.tensor_parallel
        if one.pool.device == "cpu":
            yield from _cpu_engine(one)
            continue
        if len(set(gpus)) != len(gpus):
            yield Problem((*one.path, "gpus"), "names a GPU twice", "each GPU once", value=str(list(gpus)))
        if len(gpus) != wanted:
            yield Problem(
                (*one.path, "gpus"),
                f"has {count(len(gpus), 'GPU')}, but tensor_parallel of pool {one.pool_name} is {wanted}",
                f"exactly {count(wanted, 'GPU number')}",
                "list the GPUs of this engine, or change tensor_parallel",
                str(list(gpus)),
            )
        if node is None:
            continue
        if node.gpus == 0:
            yield Problem(
                (*one.path, "node"),
                f"pool {one.pool_name} computes on GPUs, but {one.engine.node} declares none (node_gpus is 0)",
                "a node with GPUs, or device: cpu in the pool",
                f"set node_gpus for {one.engine.node} in hosts.yml, or choose another node",
                f'"{one.engine.node}"',
            )
        elif beyond := [gpu for gpu in gpus if gpu >= node.gpus]:
            yield Problem(
                (*one.path, "gpus"),
                f"GPU {beyond[0]} does not exist on {one.engine.node} (node_gpus is {node.gpus})",
                f"numbers from 0 to {node.gpus - 1}",
                "correct the numbers, or node_gpus of the host",
                str(list(gpus)),
            )


def _cpu_engine(one: Placed) -> Iterator[Problem]:
    if one.engine.gpus:
        yield Problem(
            (*one.path, "gpus"),
            f"pool {one.pool_name} computes on CPUs",
            "no gpus with device: cpu",
            "remove gpus, or set device: gpu in the pool",
            str(list(one.engine.gpus)),
        )
    if one.pool.tensor_parallel != 1:
        yield Problem(
            ("service_pools", one.pool_name, "tensor_parallel"),
            "a pool on CPUs is not spread over GPUs",
            "1 with device: cpu",
            "remove tensor_parallel",
            str(one.pool.tensor_parallel),
        )


def shares_fit(definition: Definition) -> Iterator[Problem]:
    """Engines that share a GPU each say how much of its memory they take, and together not more than there is."""
    users: dict[tuple[str, int], list[Placed]] = defaultdict(list)
    for one in placed(definition):
        for gpu in dict.fromkeys(one.engine.gpus):
            users[one.engine.node, gpu].append(one)
    for (node, gpu), sharing in users.items():
        if len(sharing) < 2:
            continue
        names = ", ".join(one.engine.name for one in sharing)
        missing = [one for one in sharing if one.share is None]
        total = sum(one.share or 0 for one in sharing)
        for one in missing:
            yield Problem(
                (*one.path, "gpus"),
                f"shares GPU {gpu} of {node} ({names}) without a memory share",
                "memory_share of every engine on a shared GPU, together at most 1.0",
                "add memory_share to the engine or its pool, or give it a GPU of its own",
                str(list(one.engine.gpus)),
            )
        if not missing and total > 1 + _ROUNDING:
            last = sharing[-1]
            yield Problem(
                (*last.path, "memory_share"),
                f"the shares of {names} on GPU {gpu} of {node} are {total:.2f}",
                "together at most 1.0",
                "lower the shares, or move an engine",
                f"{last.share:g}",
            )
