"""Rendering the balancer's files: one function for Ansible, scripts/render and the gateway tests."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rackserve.fleet.haproxy_files import TEMPLATES, RenderError, origin_of, part_of, render

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gateway.balancer import variables
from gateway.plan import ENGINE_KEY, KEYS, default_pools, plan, pool, tenant


def service(pools: dict[str, dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    return plan("192.0.2.1", 19000, pools) | changes


def test_the_same_variables_give_the_same_digest_and_any_change_another() -> None:
    first = render(variables(service()), "lb1")
    assert first == render(variables(service()), "lb1")
    digests = {
        render(variables(service()), "lb2").digest,
        render(variables(service(ports={"api": 1, "stats": 2})), "lb1").digest,
        render(variables(service(), haproxy_engine_key="another-key"), "lb1").digest,
        render(variables(service(tenants={})), "lb1").digest,
        first.digest,
    }
    assert len(digests) == 5
    assert first.text("maps/configuration.map") == f"digest {first.digest}\n", (
        "in a map, so that keys change at run time"
    )
    assert first.digest not in first.text("haproxy.cfg")


def test_the_engine_key_stands_in_one_secret_file_only() -> None:
    files = render(variables(service()), "lb1").files
    assert [(file.path, file.secret) for file in files if ENGINE_KEY in file.text] == [("maps/engine_keys.map", True)]
    assert not [file.path for file in files for key in KEYS.values() if key in file.text]


def test_a_certificate_is_a_secret_file() -> None:
    files = render(variables(service(), haproxy_tls_pem="-----BEGIN"), "lb1").files
    assert [(file.path, file.secret) for file in files if file.path.startswith("certs/")] == [("certs/api.pem", True)]


def test_two_balancers_share_the_places_of_a_queue() -> None:
    pools = {"duo": pool(["duo"], ["duo-1"], queue={"max_requests": 5, "timeout_seconds": 1})}
    text = render(variables(plan("192.0.2.1", 1, pools) | {"balancers": ["lb1", "lb2"]}), "lb1").text("haproxy.cfg")
    assert "{ var(txn.waiting) -m int ge 3 }" in text, "5 places over two balancers, rounded up"


def menus(**changes: Any) -> dict[str, str]:
    candidate = render(variables(service(**changes)), "lb1")
    return dict(line.split(" ", 1) for line in candidate.text("maps/menus.map").splitlines())


def test_a_key_sees_only_pools_of_its_tenant_and_lane() -> None:
    pools = default_pools()
    pools["wide"]["lanes"] = ["batch"]
    pools["many"]["tenants"] = ["batch"]
    got = menus(pools=pools)
    assert got["demo/demo-1"] == "duo+hashed+narrow+unqueued"
    assert got["batch/batch-1"] == "duo+hashed+many+narrow+unqueued+wide"


def test_a_key_may_have_a_lane_of_its_own() -> None:
    demo = tenant("demo", "interactive", ["duo"])
    demo["keys"][0]["lane"] = "batch"
    candidate = render(variables(service(tenants={"demo": demo})), "lb1")
    assert candidate.text("maps/lanes.map") == "demo/demo-1 batch\n"


def test_a_tenant_without_a_usable_pool_gets_an_empty_menu() -> None:
    pools = default_pools()
    pools["duo"]["tenants"] = ["demo"]
    candidate = render(variables(service(pools=pools)), "lb1")
    assert "narrow/narrow-1 nothing\n" in candidate.text("maps/menus.map")
    assert 'nothing {"data": [], "object": "list"}\n' in candidate.text("maps/catalogs.map")


def test_fractions_of_seconds_become_whole_milliseconds() -> None:
    text = render(variables(service(timeouts=service()["timeouts"] | {"connect_seconds": 0.25})), "lb1").text(
        "haproxy.cfg"
    )
    assert "timeout connect 250ms\n" in text


def broken(**changes: Any) -> str:
    with pytest.raises(RenderError) as caught:
        render(variables(service()) | changes, "lb1")
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"haproxy_plan": {}}, "haproxy_plan is empty. Set it to the resolved service definition: {{ service_plan }}."),
        ({"haproxy_engine_key": ""}, "haproxy_engine_key needs 8 to 512 printable characters without spaces"),
        ({"haproxy_engine_key": "two words"}, "haproxy_engine_key needs 8 to 512 printable characters without spaces"),
        ({"haproxy_hard_stop_after_seconds": 20}, "is 20; more than the longest generation (20 s)"),
        (
            {"haproxy_plan": service(pools={"p": pool(["p"], [], slots=0)})},
            "pools.p.slots_per_balancer is 0; at least 1",
        ),
        (
            {"haproxy_plan": service(pools={"p": pool(["p"], [], balance={"kind": "random"})})},
            "pools.p.balance.kind is 'random'; least_loaded or prefix_hash",
        ),
        ({"haproxy_plan": service(edge={})}, "templates/haproxy/00-global.cfg.j2:22: 'dict object' has no attribute"),
        ({"haproxy_plan": service(ports={"api": 1})}, "templates/haproxy/95-private.cfg.j2:3: 'dict object' has no"),
        ({"haproxy_keep_alive_seconds": "soon"}, "templates/haproxy/units.j2:2: "),
    ],
)
def test_unusable_variables_are_named_with_what_is_allowed(changes: dict[str, Any], expected: str) -> None:
    assert expected in broken(**changes)


def test_a_missing_variable_is_named() -> None:
    values = variables(service())
    del values["haproxy_check_path"]
    with pytest.raises(RenderError, match=r"85-health\.cfg\.j2:\d+: 'haproxy_check_path' is undefined"):
        render(values, "lb1")


def test_a_template_that_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    templates = Path(shutil.copytree(TEMPLATES, tmp_path / "haproxy"))
    with (templates / "20-identify.cfg.j2").open("a") as part:
        part.write("{% if %}\n")
    with pytest.raises(RenderError, match=r"20-identify\.cfg\.j2:\d+: Expected an expression"):
        render(variables(service()), "lb1", templates)


def line_of(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start))


@pytest.mark.parametrize(
    ("start", "part", "template_start"),
    [
        ("bind *:18080", "10-listen.cfg.j2", "bind {{"),
        ("option abortonclose", "05-defaults.cfg.j2", "option abortonclose"),
        ("use_backend", "59-track.cfg.j2", "use_backend"),
        ("tune.bufsize", "00-global.cfg.j2", "tune.bufsize {{"),
        ("backend engines", "85-health.cfg.j2", "backend engines"),
        ("stats uri", "95-private.cfg.j2", "stats uri"),
    ],
)
def test_a_rendered_line_is_traced_to_its_template_line(start: str, part: str, template_start: str) -> None:
    text = render(variables(service()), "lb1").text("haproxy.cfg")
    origin = origin_of(text, line_of(text, start))
    assert origin.part == part
    assert origin.template_line is not None
    assert (TEMPLATES / part).read_text().splitlines()[origin.template_line - 1].strip().startswith(template_start)


def test_every_line_belongs_to_a_part_that_exists() -> None:
    text = render(variables(service()), "lb1").text("haproxy.cfg")
    parts = {part_of(text, number)[0] for number in range(1, len(text.splitlines()) + 1)}
    assert parts <= {path.name for path in TEMPLATES.glob("*.j2")}
    assert {"00-global.cfg.j2", "60-queue.cfg.j2", "80-engine.cfg.j2", "95-private.cfg.j2"} <= parts


def test_a_line_beyond_the_end_is_not_an_error() -> None:
    assert origin_of("global\n", 99).template_line is None
