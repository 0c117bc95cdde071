"""A small definition whose pools and hosts a test sizes."""

from collections.abc import Callable
from typing import Any

import pytest
from rackserve.definition.models.node import Node
from rackserve.definition.models.service import Service
from rackserve.definition.read import Definition

Make = Callable[..., Definition]


@pytest.fixture(scope="session")
def define() -> Make:
    def make(engines: int = 2, balancers: int = 2, places: int = 10, tls: bool = True, **pool: Any) -> Definition:
        given = tuple({"name": f"p-{n}", "node": "g1", "port": 8001 + n, "gpus": (n,)} for n in range(engines))
        model = {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 2048}
        service = Service.model_validate(
            {
                "name": "unit",
                "stage": "test",
                "models": {"m": model},
                "releases": {"r": {"version": "1.0", "lock": "l", "model": "m"}},
                "pools": {
                    "p": {
                        "release": "r",
                        "names": ("p",),
                        "slots": 4,
                        "queue": {"max_requests": places, "timeout_seconds": 20.0},
                        "engines": given,
                        **pool,
                    }
                },
                "lanes": {"chat": {"priority": 10}},
                "tenants": {"t": {"lane": "chat", "pools": ("p",)}},
                "engine_key": "0123456789abcdef",
                "tls": {"certificate": "lab_ca"} if tls else None,
            }
        )
        groups = {"balancers": tuple(f"lb{n + 1}" for n in range(balancers)), "gpu_nodes": ("g1",), "monitors": ("m1",)}
        names = [name for members in groups.values() for name in members]
        nodes = {name: Node(address=f"192.0.2.{number}") for number, name in enumerate(names, 1)}
        return Definition(service, nodes, groups, {})

    return make
