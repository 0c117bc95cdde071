"""A small definition with the SLOs that a test gives."""

from collections.abc import Callable
from typing import Any

import pytest
from rackserve.definition.models.service import Service
from rackserve.definition.read import Definition

Make = Callable[..., Definition]


def slo(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "pool": "p", "indicator": "availability", "objective_percent": 99.0, **changes}


@pytest.fixture(scope="session")
def define() -> Make:
    def make(*slos: dict[str, Any]) -> Definition:
        pool = {
            "release": "r",
            "names": ("p",),
            "slots": 4,
            "queue": {"max_requests": 4, "timeout_seconds": 20.0},
            "engines": ({"name": "p-1", "node": "g1", "port": 8001, "gpus": (0,)},),
        }
        model = {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 2048}
        service = Service.model_validate(
            {
                "name": "unit",
                "stage": "test",
                "models": {"m": model},
                "releases": {"r": {"version": "1.0", "lock": "l", "model": "m"}},
                "pools": {"p": pool},
                "lanes": {
                    "chat": {"priority": 10, "queue_timeout_seconds": 5.0, "generation_timeout_seconds": 100.0},
                    "batch": {"priority": 200, "queue_timeout_seconds": 60.0, "generation_timeout_seconds": 5000.0},
                },
                "tenants": {"t": {"lane": "chat", "pools": ("p",)}},
                "engine_key": "0123456789abcdef",
                "slos": tuple(slo(**one) for one in slos),
            }
        )
        return Definition(service, {}, {"balancers": ("lb1", "lb2")}, {})

    return make
