"""What holds for the plan of every valid definition, whatever its numbers."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rackserve.definition.models import Service
from rackserve.definition.outcome import Outcome, validate
from rackserve.definition.plan import slots_per_balancer
from rackserve.definition.raw import Raw

HASH = "ab" * 32
ON_BALANCERS = ("api", "stats", "peers", "traffic")
ON_GPU_NODES = ("probe", "probe_metrics")
ON_MONITORS = ("prometheus", "alertmanager")


def definition(pools: dict[str, Any], **more: Any) -> dict[str, Any]:
    model = {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 2048}
    return {
        "service_name": "unit",
        "service_stage": "test",
        "service_models": {"m": model},
        "service_releases": {"r": {"version": "1.0", "lock": "l", "model": "m"}},
        "service_pools": pools,
        "service_lanes": {"interactive": {"priority": 10}},
        "service_tenants": {
            "t": {"lane": "interactive", "pools": tuple(pools), "keys": ({"id": "k", "sha256": HASH},)}
        },
        "service_engine_key": "0123456789abcdef",
        **more,
    }


def pool(slots: int, engines: tuple[dict[str, Any], ...], name: str) -> dict[str, Any]:
    return {
        "release": "r",
        "names": (name,),
        "device": "cpu",
        "slots": slots,
        "queue": {"max_requests": 4, "timeout_seconds": 20},
        "engines": engines,
    }


def rack(balancers: int, gpu_nodes: int, monitors: int, alone: bool) -> Raw:
    """Hosts: with `alone` the balancers are also GPU nodes and monitors."""
    names = [
        f"n{number}"
        for number in range(max(balancers, gpu_nodes, monitors) if alone else balancers + gpu_nodes + monitors)
    ]
    if alone:
        groups = {"balancers": names[:balancers], "gpu_nodes": names[:gpu_nodes], "monitors": names[:monitors]}
    else:
        groups = {
            "balancers": names[:balancers],
            "gpu_nodes": names[balancers : balancers + gpu_nodes],
            "monitors": names[balancers + gpu_nodes :],
        }
    hosts = {name: {"ansible_host": f"10.1.0.{number + 1}"} for number, name in enumerate(names)}
    return Raw({}, hosts, {group: tuple(members) for group, members in groups.items()})


@st.composite
def racks(draw: st.DrawFn) -> Raw:
    raw = rack(draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(0, 2)), draw(st.booleans()))
    nodes = raw.groups["gpu_nodes"]
    pools = {}
    for number in range(draw(st.integers(1, 3))):
        engines = tuple(
            {"name": f"e{number}-{index}", "node": draw(st.sampled_from(nodes)), "port": draw(st.integers(8000, 8006))}
            for index in range(draw(st.integers(1, 4)))
        )
        pools[f"p{number}"] = pool(draw(st.integers(1, 64)), engines, f"p{number}")
    every = (*ON_BALANCERS, *ON_GPU_NODES, *ON_MONITORS, "alertmanager_peers", "node_exporter")
    ports = dict(zip(every, draw(st.permutations(range(8000, 8030))), strict=False))
    if draw(st.integers(0, 9)) == 0:
        ports[draw(st.sampled_from(every))] = ports["api"]
    return Raw(definition(pools, service_ports=ports), raw.hosts, raw.groups)


def listeners_clash(raw: Raw) -> bool:
    """An independent statement of the rule: count listeners per node and port."""
    seen: list[tuple[str, int]] = []
    for node in raw.hosts:
        seen.append((node, 22))
        if node in raw.groups["balancers"]:
            seen += [(node, raw.variables["service_ports"][key]) for key in ON_BALANCERS]
        if node in raw.groups["gpu_nodes"]:
            seen += [(node, raw.variables["service_ports"][key]) for key in ON_GPU_NODES]
        if node in raw.groups["monitors"]:
            seen += [(node, raw.variables["service_ports"][key]) for key in ON_MONITORS]
            if len(raw.groups["monitors"]) > 1:
                seen.append((node, raw.variables["service_ports"]["alertmanager_peers"]))
        if raw.groups["monitors"]:
            seen.append((node, raw.variables["service_ports"]["node_exporter"]))
    seen += [(e["node"], e["port"]) for p in raw.variables["service_pools"].values() for e in p["engines"]]
    return len(seen) != len(set(seen))


def slots_are_short(raw: Raw) -> bool:
    return any(p["slots"] < len(raw.groups["balancers"]) for p in raw.variables["service_pools"].values())


def ports_are_one(raw: Raw) -> bool:
    return len(set(raw.variables["service_ports"].values())) < len(raw.variables["service_ports"])


@settings(max_examples=300, deadline=None)
@given(racks())
def test_a_plan_exists_exactly_when_ports_are_free_and_slots_suffice(raw: Raw) -> None:
    outcome = validate(raw)
    assert (outcome.plan is None) == (listeners_clash(raw) or slots_are_short(raw) or ports_are_one(raw))


@settings(max_examples=200, deadline=None)
@given(racks())
def test_properties_of_every_plan(raw: Raw) -> None:
    outcome: Outcome = validate(raw)
    if outcome.plan is None:
        return
    plan = outcome.plan
    balancers = len(plan["balancers"])
    inner = {plan["nodes"][name]["address"] for name in (*plan["balancers"], *plan["monitors"])}
    monitors = {plan["nodes"][name]["address"] for name in plan["monitors"]}
    for one in plan["pools"].values():
        assert 1 <= one["slots_per_balancer"] * balancers <= one["slots"]
    assert {e["name"] for e in plan["engines"]} == {name for node in plan["nodes"].values() for name in node["engines"]}
    for name, node in plan["nodes"].items():
        by_name = {listener["name"]: listener for listener in node["listeners"]}
        ports = [listener["port"] for listener in node["listeners"]]
        assert len(ports) - ("alertmanager_peers" in by_name) == len(set(ports)), (
            "one listener per port (one is TCP and UDP)"
        )
        expected = {"ssh", *(f"engine {e}" for e in node["engines"])}
        expected |= set(ON_BALANCERS) if name in plan["balancers"] else set()
        expected |= set(ON_GPU_NODES) if name in plan["gpu_nodes"] else set()
        if plan["monitors"]:
            expected.add("node_exporter")
        if name in plan["monitors"]:
            expected |= set(ON_MONITORS) | ({"alertmanager_peers"} if len(plan["monitors"]) > 1 else set())
        assert set(by_name) == expected
        if "probe" in by_name:
            assert set(by_name["probe"]["sources"]) == {plan["nodes"][one]["address"] for one in plan["balancers"]}
        for key in {*ON_MONITORS, "node_exporter", "alertmanager_peers"} & set(by_name):
            assert set(by_name[key]["sources"]) <= monitors, "what watches is for monitors only"
        named = {"ssh", "api", "peers", "probe", "node_exporter", "alertmanager_peers", *ON_MONITORS}
        closed = [listener for key, listener in by_name.items() if key not in named]
        assert all(set(listener["sources"]) == inner for listener in closed), "engines and statistics are never open"


@given(st.integers(1, 100_000), st.integers(1, 16))
def test_slots_of_all_balancers_never_exceed_the_engines(slots: int, balancers: int) -> None:
    each = slots_per_balancer(slots, balancers)
    assert each * balancers <= slots < (each + 1) * balancers


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_anywhere_gives_problems_and_never_an_exception(data: st.DataObject) -> None:
    engines = ({"name": "e", "node": "n1", "port": 8001},)
    variables = definition({"p": pool(4, engines, "p")})
    name = data.draw(st.sampled_from([f"service_{field}" for field in Service.model_fields]))
    value = variables.get(name)
    while isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        holder, value = value, value[key]
        if not isinstance(value, dict):
            holder[key] = data.draw(json_values)
            break
    else:
        variables[name] = data.draw(json_values)
    raw = rack(1, 1, 1, alone=False)
    outcome = validate(Raw(variables, raw.hosts, raw.groups))
    assert (outcome.plan is None) == bool(outcome.problems)
    assert all(str(problem) for problem in outcome.problems)


def test_defaults_are_resolved_per_pool_and_lane() -> None:
    engines = ({"name": "e", "node": "n1", "port": 8001},)
    own = pool(5, engines, "p") | {"timeouts": {"silence_seconds": 60.5}}
    raw = rack(1, 1, 1, alone=False)
    plan = validate(Raw(definition({"p": own}), raw.hosts, raw.groups)).plan
    assert plan is not None
    assert plan["pools"]["p"]["timeouts"] == {
        "connect_seconds": 2,
        "queue_seconds": 20,
        "silence_seconds": 60.5,
        "generation_seconds": 900,
        "client_seconds": 900,
    }
    assert plan["pools"]["p"]["lanes"] == ["interactive"]
    assert plan["lanes"]["interactive"]["generation_timeout_seconds"] == 900
    assert plan["models"]["m"]["path_key"] == "m/1"
    assert {name: node["models"] for name, node in plan["nodes"].items()} == {"n0": [], "n1": ["m"], "n2": []}
    assert plan["releases"]["r"]["model_revision"] == "1"
    assert plan["tenants"]["t"]["key_hashes"] == [HASH]
    assert isinstance(plan["timeouts"]["queue_seconds"], int), "templates write it as it stands"


def test_networks_restrict_ssh_and_api() -> None:
    engines = ({"name": "e", "node": "n1", "port": 8001},)
    networks = {"service_admin_networks": ("10.9.0.0/24",), "service_client_networks": ("10.8.0.0/16", "10.7.0.1")}
    raw = rack(1, 1, 0, alone=False)
    plan = validate(Raw(definition({"p": pool(4, engines, "p")}, **networks), raw.hosts, raw.groups)).plan
    assert plan is not None
    sources = {listener["name"]: listener["sources"] for listener in plan["nodes"]["n0"]["listeners"]}
    assert sources == {
        "ssh": ["10.9.0.0/24"],
        "api": ["10.8.0.0/16", "10.7.0.1/32"],
        "stats": ["10.1.0.1"],
        "traffic": ["10.1.0.1"],
        "peers": ["10.1.0.1"],
    }
