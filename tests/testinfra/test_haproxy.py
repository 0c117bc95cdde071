"""The balancer, asked from outside and on the node. Runs against molecule's node and any real rack alike."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

testinfra_hosts = ["ansible://balancers"]

DEFAULTS = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/haproxy/defaults/main.yml").read_text())


@pytest.fixture
def service(variables: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """The resolved definition; a role alone on a test node has it in its own variable."""
    resolved: dict[str, Any] = variables.get("haproxy_plan") or plan
    assert resolved, "the inventory has no service definition"
    return resolved


@pytest.fixture
def wanted(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: variables.get(name, value) for name, value in DEFAULTS.items()}


@pytest.fixture
def private(host: Host, service: dict[str, Any]) -> Callable[[str], str]:
    """Asks the private port on the node itself: the firewall lets monitors in only."""

    def get(path: str) -> str:
        url = f"http://127.0.0.1:{service['ports']['stats']}{path}"
        script = (
            "import sys, urllib.request; a = urllib.request.urlopen(sys.argv[1], timeout=5);"
            "print(a.headers); print(a.read().decode())"
        )
        return str(host.check_output("python3 -c %s %s", script, url))

    return get


def runtime(host: Host, wanted: dict[str, Any], command: str) -> str:
    script = (
        "import socket,sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall((sys.argv[2] + chr(10)).encode()); print(s.makefile().read())"
    )
    path = f"{wanted['haproxy_runtime_directory']}/admin.sock"
    return str(host.check_output("python3 -c %s %s %s", script, path, command))


def api(variables: dict[str, Any], service: dict[str, Any], path: str) -> tuple[int, dict[str, str], Any]:
    """Asks the API port from here, as a client does."""
    tls = service.get("tls")
    scheme = "https" if tls or variables.get("haproxy_tls_pem") else "http"
    url = f"{scheme}://{variables['ansible_host']}:{service['ports']['api']}{path}"
    context = ssl.create_default_context(cafile=tls["trusted_by"] if tls else None)
    # A supplied certificate is made for the name that clients use; here a balancer is asked by its address.
    context.check_hostname = not tls or tls["certificate"] == "lab_ca"
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, json.load(error)


def test_the_service_runs_and_starts_at_boot(host: Host, journal: Callable[[str], str]) -> None:
    service = host.service("haproxy")
    assert service.is_running, journal("haproxy")
    assert service.is_enabled


def test_the_version_is_new_enough(host: Host) -> None:
    words = host.check_output("haproxy -v").split()
    major, minor = (int(part) for part in words[words.index("version") + 1].split(".")[:2])
    assert (major, minor) >= (2, 8)


def test_haproxy_accepts_the_configuration_on_disk_without_warnings(host: Host) -> None:
    checked = host.run("haproxy -c -f /etc/haproxy/haproxy.cfg")
    assert checked.rc == 0, checked.stderr
    about_files = [
        line for line in checked.stderr.splitlines() if line.startswith("[WARNING]") and "haproxy.cfg:" in line
    ]
    assert not about_files


def test_what_runs_is_what_lies_on_disk(host: Host, private: Callable[[str], str]) -> None:
    answer = private("/healthz")
    digest = json.loads(answer.splitlines()[-1])["configuration"]
    assert f"x-rackserve-configuration: {digest}" in answer
    live = host.check_output("readlink -f /etc/haproxy/haproxy.cfg")
    assert live.split("/")[-2].split("-")[1] == digest


def test_secrets_are_readable_by_root_and_haproxy_only(host: Host) -> None:
    for name in ("haproxy.cfg", "maps/engine_keys.map", "maps/keys.map"):
        file = host.file(host.check_output("readlink -f /etc/haproxy/%s", name))
        assert (file.user, file.group, file.mode) == ("root", "haproxy", 0o640), name


def test_the_engines_key_stands_in_its_map_only(host: Host, variables: dict[str, Any]) -> None:
    first = host.check_output("head -n 1 /etc/haproxy/maps/engine_keys.map").split()
    assert len(first) == 2, "the map holds POOL KEY"
    assert host.run("grep --fixed-strings --quiet -- %s /etc/haproxy/maps/engine_keys.map", first[1]).rc == 0
    assert host.run("grep --fixed-strings --quiet -- %s /etc/haproxy/haproxy.cfg", first[1]).rc == 1


def test_the_ports_listen_and_the_admin_socket_is_no_port(
    host: Host, service: dict[str, Any], wanted: dict[str, Any]
) -> None:
    listening = host.check_output("ss --no-header --listening --tcp --numeric --processes").splitlines()
    ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in listening if '"haproxy"' in line}
    # Counters are shared with other balancers only.
    alone = len(service["balancers"]) < 2
    own = ("api", "stats") if alone else ("api", "stats", "peers")
    assert ports == {service["ports"][name] for name in own}
    socket = host.file(f"{wanted['haproxy_runtime_directory']}/admin.sock")
    assert (socket.is_socket, socket.user, socket.group, socket.mode) == (True, "root", "haproxy", 0o660)


def test_workers_do_not_run_as_root(host: Host) -> None:
    users = host.check_output("ps -o user= -C haproxy").split()
    assert users.count("root") == 1, "the master only"
    assert users.count("haproxy") >= 1


def test_every_pool_has_its_three_tracks_and_each_engine_its_slots(
    host: Host, service: dict[str, Any], wanted: dict[str, Any]
) -> None:
    header, *rows = runtime(host, wanted, "show stat").strip().splitlines()
    names = header.removeprefix("# ").split(",")
    servers = [dict(zip(names, row.split(","), strict=False)) for row in rows if row]
    # Backends that carry requests, and the one that holds health; others hold counters.
    slots = {
        (row["pxname"], row["svname"]): row["slim"]
        for row in servers
        if row["svname"] not in ("FRONTEND", "BACKEND") and row["pxname"].startswith(("engines", "pool-"))
    }
    expected = {("engines", engine["name"]): "" for engine in service["engines"]}
    for pool_name, pool in service["pools"].items():
        for track in ("stable", "baseline", "canary"):
            expected |= {
                (f"pool-{pool_name}-{track}", name): str(pool["slots_per_balancer"]) for name in pool["engines"]
            }
    assert slots == expected


def test_every_engine_is_in_service(host: Host, service: dict[str, Any], wanted: dict[str, Any]) -> None:
    rows = [row.split(",") for row in runtime(host, wanted, "show stat engines 4 -1").strip().splitlines()[1:]]
    assert {row[1]: row[17] for row in rows if row[0]} == {engine["name"]: "UP" for engine in service["engines"]}


def test_metrics_are_served_on_the_private_port(private: Callable[[str], str]) -> None:
    assert "haproxy_backend_status" in private("/metrics")


def test_the_health_path_answers_outside(variables: dict[str, Any], service: dict[str, Any]) -> None:
    status, headers, body = api(variables, service, "/healthz")
    assert (status, body) == (200, {"status": "ok"})
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/nowhere", 404, "unknown_path"), ("/metrics", 404, "unknown_path"), ("/v1/models", 401, "missing_api_key")],
)
def test_refusals_are_errors_in_the_form_of_openai(
    variables: dict[str, Any], service: dict[str, Any], path: str, status: int, code: str
) -> None:
    got, headers, body = api(variables, service, path)
    assert (got, headers["content-type"]) == (status, "application/json")
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["code"] == code


def test_a_request_is_found_in_the_log_as_one_json_object(
    host: Host, variables: dict[str, Any], service: dict[str, Any]
) -> None:
    """In the files of the log service; where the role stands alone, in the journal."""
    _, headers, _ = api(variables, service, "/nowhere")
    found = host.check_output(
        "for attempt in 1 2 3 4 5 6 7 8 9 10; do "
        "grep --no-filename --fixed-strings %s /var/log/rackserve/requests/*.jsonl 2>/dev/null && break; "
        "journalctl --unit=haproxy --output=cat --since=-1min --grep=%s && break; sleep 0.2; done",
        headers["x-request-id"],
        headers["x-request-id"],
    )
    entry = json.loads(found.splitlines()[-1])
    assert (entry["request_id"], entry["status"], entry["refused"]) == (headers["x-request-id"], 404, "unknown_path")


def test_no_more_previous_candidates_than_wanted(host: Host, wanted: dict[str, Any]) -> None:
    kept = host.check_output("ls --almost-all /etc/haproxy/candidates").split()
    assert 1 <= len(kept) <= wanted["haproxy_keep_candidates"] + 1, kept


def test_the_limits_reach_the_process(host: Host, wanted: dict[str, Any]) -> None:
    """A container may be granted less than we ask for; the connection limit follows what was granted."""
    information = dict(line.split(": ", 1) for line in runtime(host, wanted, "show info").splitlines() if ": " in line)
    granted = int(information["Ulimit-n"])
    assert granted <= wanted["haproxy_fd_limit"]
    assert granted // 3 <= int(information["Maxconn"]) <= granted // 2
