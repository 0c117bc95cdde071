"""Engines as systemd runs them. Looks only; a stop under load is tried in the molecule scenario."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://gpu_nodes"]

ROOT = "/opt/rackserve"
# Reads the key on the node itself, so that it stands in no command line.
ASK = """
import http.client, json, sys
port, model, keyed = sys.argv[1:4]
headers = {"Content-Type": "application/json"}
if keyed == "yes":
    headers["Authorization"] = "Bearer " + open("/etc/rackserve/vllm.env").read().strip().split("=", 1)[1]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
connection.request("POST", "/v1/completions", json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1}), headers)
response = connection.getresponse()
body = json.loads(response.read())
print(json.dumps({"status": response.status, "tokens": (body.get("usage") or {}).get("completion_tokens")}))
"""
PROCESSES = """
import glob, json, os, pwd, sys
found = []
for path in glob.glob("/proc/[0-9]*"):
    try:
        groups = open(path + "/cgroup").read().split()
        if not any(group.rstrip("/").endswith(sys.argv[1]) for group in groups):
            continue
        command = open(path + "/cmdline").read().replace(chr(0), " ").strip()
        status = open(path + "/status").read()
        found.append({"command": command, "user": pwd.getpwuid(os.stat(path).st_uid).pw_name, "status": status})
    except FileNotFoundError:
        continue
print(json.dumps(found))
"""


@pytest.fixture
def engines(host: Host, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of each engine of this node; those that the definition names, where the inventory has one."""
    names = str(host.check_output("ls %s/engines", ROOT)).split()
    assert names, "no engine on this node"
    if plan:
        node = host.backend.host
        assert sorted(names) == sorted(plan["nodes"][node]["engines"])
    return [json.loads(host.check_output("cat %s/engines/%s/engine.json", ROOT, name)) for name in names]


def unit(engine: dict[str, Any]) -> str:
    return f"vllm@{engine['engine']}.service"


def ask(host: Host, engine: dict[str, Any], *, keyed: bool) -> dict[str, Any]:
    model = engine["served_names"][0]
    said = host.check_output("python3 -I -c %s %s %s %s", ASK, str(engine["port"]), model, "yes" if keyed else "no")
    answer: dict[str, Any] = json.loads(said)
    return answer


def processes(host: Host, engine: dict[str, Any]) -> list[dict[str, str]]:
    """All processes of the unit, by its control group: engines rename theirs."""
    found: list[dict[str, str]] = json.loads(host.check_output("python3 -I -c %s %s", PROCESSES, f"/{unit(engine)}"))
    return found


def key_of(host: Host) -> str:
    return str(host.check_output("cat /etc/rackserve/vllm.env")).strip().split("=", 1)[1]


def test_units_are_active_and_start_with_the_machine(
    host: Host, engines: list[dict[str, Any]], journal: Callable[[str], str]
) -> None:
    for engine in engines:
        service = host.service(unit(engine))
        assert service.is_running, journal(unit(engine))
        assert service.is_enabled, unit(engine)


def test_units_that_crash_again_and_again_are_tried_more_and_more_rarely(
    host: Host, engines: list[dict[str, Any]]
) -> None:
    """systemd 254 and newer can; older ones have no such property."""
    version = int(host.run("systemctl --version").stdout.split()[1])
    for engine in engines:
        longest = host.check_output("systemctl show -P RestartMaxDelayUSec %s", unit(engine))
        assert longest == ("5min" if version >= 254 else ""), unit(engine)


def test_engines_generate_a_token_with_the_key(host: Host, engines: list[dict[str, Any]]) -> None:
    for engine in engines:
        assert ask(host, engine, keyed=True) == {"status": 200, "tokens": 1}, engine["engine"]


def test_engines_refuse_a_request_without_the_key(host: Host, engines: list[dict[str, Any]]) -> None:
    for engine in engines:
        assert ask(host, engine, keyed=False) == {"status": 401, "tokens": None}, engine["engine"]


def test_processes_run_as_the_engines_user_without_privileges(host: Host, engines: list[dict[str, Any]]) -> None:
    for engine in engines:
        found = processes(host, engine)
        assert len(found) >= 2, f"{engine['engine']}: {found}"
        for process in found:
            assert process["user"] == "vllm", process
            assert re.search(r"^CapEff:\s+0+$", process["status"], re.MULTILINE), process
            assert re.search(r"^NoNewPrivs:\s+1$", process["status"], re.MULTILINE), process


def test_no_process_of_the_engines_user_lives_outside_a_unit(host: Host, engines: list[dict[str, Any]]) -> None:
    owned = int(host.check_output("ps -o pid= -u vllm | wc -l"))
    assert owned == sum(len(processes(host, engine)) for engine in engines)


def test_the_key_is_in_no_command_line_and_not_in_the_journal(host: Host, engines: list[dict[str, Any]]) -> None:
    key = key_of(host)
    assert len(key) >= 16
    for engine in engines:
        assert not [process for process in processes(host, engine) if key in process["command"]]
        log = host.run("journalctl --no-pager --output cat --unit %s", unit(engine)).stdout
        assert "answered after" in log, "the journal has no start of this engine"
        assert key not in log


def test_the_key_is_readable_by_root_alone(host: Host) -> None:
    file = host.file("/etc/rackserve/vllm.env")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_what_engines_run_belongs_to_root(host: Host, engines: list[dict[str, Any]]) -> None:
    writable = "find %s/environments %s/releases %s/engines %s/tools %s/models -user vllm -o -perm /022 ! -type l"
    assert host.check_output(writable, *[ROOT] * 5) == ""


def test_each_engine_runs_what_its_pointer_says(host: Host, engines: list[dict[str, Any]]) -> None:
    for engine in engines:
        folder = f"{ROOT}/engines/{engine['engine']}"
        release = json.loads(host.check_output("cat %s/current/release.json", folder))
        started = json.loads(host.check_output("cat /run/rackserve/%s/started.json", engine["engine"]))
        assert started["digest"] == release["digest"], f"{engine['engine']} runs {started['release']}"
        commands = " ".join(process["command"] for process in processes(host, engine))
        assert release["model_path"] in commands


def test_engines_drain_before_systemd_kills_them(host: Host, engines: list[dict[str, Any]]) -> None:
    """The stop of systemd must be longer than vLLM's own, or streams are cut."""
    for engine in engines:
        words = engine["arguments"]
        drain = int(words[words.index("--shutdown-timeout") + 1])
        settings = host.check_output("systemctl show -p KillMode -p TimeoutStopUSec %s", unit(engine)).splitlines()
        shown = dict(line.split("=", 1) for line in settings)
        parts = re.findall(r"(\d+)(h|min|s)", shown["TimeoutStopUSec"])
        seconds = sum(int(number) * {"h": 3600, "min": 60, "s": 1}[name] for number, name in parts)
        assert shown["KillMode"] == "mixed"
        assert seconds >= drain + 20
