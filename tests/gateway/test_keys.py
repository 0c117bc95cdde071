"""Keys come and go in the running HAProxy, without a reload; expired ones are refused from their day on."""

import copy
import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from rackserve.fleet.keys_apply import Applied, apply, wanted_for
from rackserve.fleet.runtime import Runtime

from gateway.asking import error_of
from gateway.balancer import CONFIGURATION, Balancer, candidate, variables
from gateway.plan import FIRST_PORT, KEYS, NODE, plan
from gateway.test_runtime_client import runtime as runtime

ROOT = f"{CONFIGURATION}-keys"


@pytest.fixture
def service(balancer: Balancer, stub_address: str) -> Iterator[dict[str, Any]]:
    """A plan to edit; the files lie as the role leaves them. Afterwards the configuration is the common one again."""
    one = plan(stub_address, FIRST_PORT)
    name = f"20260101T000000-{candidate(one).digest}"
    balancer.node.run(
        f"rm -rf {ROOT}; mkdir -p {ROOT}/candidates && cp -a {CONFIGURATION} {ROOT}/candidates/{name} && "
        f"ln -s candidates/{name} {ROOT}/current"
    )
    yield copy.deepcopy(one)
    balancer.node.run(f"rm -rf {ROOT}")
    balancer.reload(candidate(one))


def bring(runtime: Runtime, service: dict[str, Any]) -> Applied:
    wanted = replace(wanted_for(variables(service), NODE), directory=ROOT)
    return apply(runtime.host, wanted, 60)


def status(balancer: Balancer, key: str) -> int:
    answer = httpx.get(f"{balancer.url}/v1/models", headers={"authorization": f"Bearer {key}"})
    return answer.status_code


def entry(name: str, key: str, expires: str | None = None) -> dict[str, Any]:
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    return {"id": name, "sha256": sha256, "lane": None, "expires": expires, "limits": {}}


def day(offset: int) -> str:
    return str(datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=offset))


def test_a_key_works_at_once_and_is_refused_at_once_without_a_reload(
    balancer: Balancer, runtime: Runtime, service: dict[str, Any]
) -> None:
    process = runtime.information()["Pid"]
    fresh = "sk-gateway-fresh-0001"
    assert status(balancer, fresh) == 401
    service["tenants"]["demo"]["keys"].append(entry("demo-2", fresh))
    assert bring(runtime, service).changed
    assert (status(balancer, fresh), status(balancer, KEYS["demo"])) == (200, 200)
    healthz = httpx.get(f"{balancer.private_url}/healthz")
    assert healthz.headers["x-rackserve-configuration"] == candidate(service).digest, "it says what it runs"

    del service["tenants"]["demo"]["keys"][0]
    assert bring(runtime, service).changed
    assert (status(balancer, fresh), status(balancer, KEYS["demo"])) == (200, 401)
    assert not bring(runtime, service).changed
    assert runtime.information()["Pid"] == process, "the same worker"

    differing = balancer.node.run(
        f"cd {ROOT}/current && find . -type f | sort | xargs sha256sum && readlink {ROOT}/current"
    )
    for file in candidate(service).files:
        assert f"{hashlib.sha256(file.text.encode()).hexdigest()}  ./{file.path}" in differing, file.path
    assert differing.strip().endswith(candidate(service).digest), "site.yml finds its own candidate"


def test_a_key_is_refused_from_the_day_it_expires(
    balancer: Balancer, runtime: Runtime, service: dict[str, Any]
) -> None:
    service["tenants"]["demo"]["keys"] += [
        entry("tomorrow", "sk-tomorrow", day(1)),
        entry("today", "sk-today", day(0)),
        entry("long-ago", "sk-long-ago", "2020-02-29"),
    ]
    bring(runtime, service)
    assert status(balancer, "sk-tomorrow") == 200
    for key in ("sk-today", "sk-long-ago"):
        answer = httpx.get(f"{balancer.url}/v1/models", headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert error_of(answer)["code"] == "expired_api_key"
