"""A real HAProxy in the lab node gw1, beside the distribution's own service: its own directories, ports and unit."""

import csv
import io
import json
import shlex
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from rackserve.fleet.haproxy_files import Candidate, render
from rackserve.fleet.ssh import shared_connection

from gateway.asking import CONTEXT
from gateway.plan import ENGINE_KEY, NODE, UNIT

T = TypeVar("T")
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def directories(unit: str) -> tuple[str, str, str]:
    """Where a balancer has its configuration, its sockets and its state."""
    return f"/etc/{unit}", f"/run/{unit}", f"/var/lib/{unit}"


CONFIGURATION, RUNTIME, STATE = directories(UNIT)


def eventually(check: Callable[[], T | None], what: str, seconds: float = 10) -> T:
    """The first true result of `check`, asked again and again. Fails with the last result seen after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if result := check():
            return result
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s; last seen: {result!r}")
        time.sleep(0.02)


def variables(plan: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The role's variables as a playbook would set them: its defaults, the plan, and what a test changes."""
    defaults = yaml.safe_load((REPOSITORY / "roles/haproxy/defaults/main.yml").read_text())
    names = ("haproxy_config_directory", "haproxy_runtime_directory", "haproxy_state_directory")
    own: dict[str, Any] = dict(zip(names, directories(changes.pop("unit", UNIT)), strict=True))
    # Tests follow the unit's journal.
    own["haproxy_request_log"] = "stdout"
    # Stub engines have no probe; tests of it bring their own.
    own["haproxy_agent_check"] = False
    return {**defaults, "haproxy_plan": plan, "haproxy_engine_key": ENGINE_KEY, **own, **changes}


def candidate(plan: dict[str, Any], name: str = NODE, **changes: Any) -> Candidate:
    return render(variables(plan, **changes), name)


class Node:
    """gw1 over ssh. Commands run as root."""

    def __init__(self) -> None:
        inventory = yaml.safe_load((HERE / "inventory" / "hosts.yml").read_text())["all"]
        self.address: str = inventory["hosts"][NODE]["ansible_host"]
        common = inventory["vars"]["ansible_ssh_common_args"].split()
        identity = ["-i", inventory["vars"]["ansible_ssh_private_key_file"]]
        user = inventory["vars"]["ansible_user"]
        self._ssh = ["ssh", "-o", "BatchMode=yes", *shared_connection(), *common, *identity, f"{user}@{self.address}"]

    def command(self, command: str) -> list[str]:
        return [*self._ssh, f"sudo sh -c {shlex.quote(command)}"]

    def run(self, command: str, send: bytes = b"") -> str:
        result = subprocess.run(self.command(command), input=send, capture_output=True, timeout=120, check=False)
        if result.returncode == 255:
            raise AssertionError(
                f"{NODE} ({self.address}) does not answer: {result.stderr.decode().strip()}. "
                "Start it: scripts/lab up -i tests/gateway/inventory"
            )
        assert result.returncode == 0, f"{command}: {result.stderr.decode()}{result.stdout.decode()}"
        return result.stdout.decode()


class Balancer:
    """HAProxy with one candidate; reading its log, its statistics and its runtime API."""

    def __init__(self, node: Node, api_port: int, private_port: int, unit: str = UNIT) -> None:
        self.node = node
        self.unit, self.configuration, self.runtime_directory, self.state_directory = unit, *directories(unit)
        self.url = f"http://{node.address}:{api_port}"
        self.private_url = f"http://{node.address}:{private_port}"
        self.api = (node.address, api_port)
        self._log: list[str] = []
        self._follower: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def prepare(self) -> None:
        self.node.run(
            "command -v haproxy >/dev/null || { export DEBIAN_FRONTEND=noninteractive; "
            "apt-get update -q && apt-get install -yq --no-install-recommends haproxy; }"
        )
        self.node.run(f"install -d {self.configuration} {self.runtime_directory} {self.state_directory}")

    def put(self, candidate: Candidate) -> None:
        """Replaces the files and lets HAProxy check them, warnings being errors."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file in candidate.files:
                info = tarfile.TarInfo(file.path)
                data = file.text.encode()
                info.size, info.mode = len(data), 0o640
                tar.addfile(info, io.BytesIO(data))
        self.node.run(f"rm -rf {self.configuration}/* && tar -x -C {self.configuration} -f -", archive.getvalue())
        self.check()

    def check(self) -> str:
        return self.node.run(f"haproxy -c -dW -f {self.configuration}/haproxy.cfg 2>&1")

    def start(self, candidate: Candidate) -> None:
        self.stop()
        self.node.run(f"rm -f {self.state_directory}/server-state; install -d {self.runtime_directory}")
        self.put(candidate)
        self.node.run(
            f"systemd-run --quiet --collect --unit={self.unit} -p Type=notify -p LogRateLimitIntervalSec=0 "
            f"haproxy -Ws -f {self.configuration}/haproxy.cfg -p {self.runtime_directory}/pid -S {self.runtime_directory}/master.sock"
        )
        self._follow()
        self.wait_for(candidate.digest)

    def reload(self, candidate: Candidate) -> None:
        self.put(candidate)
        self.signal_reload()
        self.wait_for(candidate.digest)

    def signal_reload(self) -> None:
        self.node.run(f"systemctl kill --kill-whom=main --signal=USR2 {self.unit}")

    def stop(self) -> None:
        self.node.run(
            f"systemctl stop {self.unit} 2>/dev/null || true; systemctl reset-failed {self.unit} 2>/dev/null || true"
        )
        if self._follower is not None and self._reader is not None:
            self._follower.terminate()
            self._follower.wait(timeout=5)
            self._reader.join(timeout=5)
            self._follower = None

    def wait_for(self, digest: str) -> None:
        def running() -> bool:
            try:
                answer = httpx.get(f"{self.private_url}/healthz", timeout=2, verify=CONTEXT)
            except httpx.TransportError:
                return False
            return bool(answer.headers.get("x-rackserve-configuration") == digest)

        # Several in a row: for a moment after a reload the old process still takes connections.
        eventually(lambda: all(running() for _ in range(5)), f"a worker with the configuration {digest}")

    def statistics(self) -> dict[tuple[str, str], dict[str, str]]:
        """Rows of the statistics page by (backend or frontend, server or FRONTEND/BACKEND)."""
        text = httpx.get(f"{self.private_url}/stats;csv", timeout=5, verify=CONTEXT).text
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return {(row["pxname"], row["svname"]): row for row in rows}

    def state(self, engine: str) -> str:
        return self.statistics()["engines", engine]["status"]

    def out(self, pool: str) -> bool:
        """The pool has no engine left, in the backend that its requests go to."""
        return self.statistics()[f"pool-{pool}-stable", "BACKEND"]["status"] == "DOWN"

    def all_up(self) -> bool:
        return all(
            row["status"] == "UP"
            for (backend, server), row in self.statistics().items()
            if backend == "engines" and server != "BACKEND"
        )

    def runtime(self, command: str) -> str:
        """One command to the runtime API, over its socket in the node."""
        talk = (
            "import socket,sys\n"
            f"s=socket.socket(socket.AF_UNIX); s.connect('{self.runtime_directory}/admin.sock')\n"
            f"s.sendall(b{(command + chr(10))!r})\n"
            "while data:=s.recv(65536): sys.stdout.write(data.decode())\n"
        )
        return self.node.run(f"python3 -c {shlex.quote(talk)}")

    def log_lines(self) -> list[str]:
        """Everything HAProxy has written since it was started, request lines and its own notices."""
        return list(self._log)

    def log_entry(self, request_id: str) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            for line in self.log_lines():
                if line.startswith("{") and request_id in line:
                    entry: dict[str, Any] = json.loads(line)
                    if entry.get("request_id") == request_id:
                        return entry
            return None

        return eventually(find, f"the log line of request {request_id}")

    def _follow(self) -> None:
        self._log.clear()
        follower = subprocess.Popen(
            self.node.command(f"journalctl --unit={self.unit} --output=cat --follow --lines=0"),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._follower = follower

        def read() -> None:
            assert follower.stdout is not None
            with follower.stdout as lines:
                self._log.extend(line.rstrip("\n") for line in lines)

        self._reader = threading.Thread(target=read, name="log of the balancer", daemon=True)
        self._reader.start()
