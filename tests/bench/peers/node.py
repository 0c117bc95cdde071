"""The bench node: files into it, services in it, and what their processes cost."""

import shlex
import subprocess
import time
from pathlib import Path

import yaml
from rackserve.fleet.ssh import shared_connection

HERE = Path(__file__).resolve().parent
INVENTORY = HERE.parent / "inventory"
FOLDER = "/opt/bench"


class NodeError(Exception):
    """A command in the node failed; the message holds it and what it said."""


class Node:
    """One lab node over ssh, as root."""

    def __init__(self) -> None:
        inventory = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]
        ((name, host),) = inventory["hosts"].items()
        self.name: str = name
        self.address: str = host["ansible_host"]
        common = inventory["vars"]["ansible_ssh_common_args"].split()
        identity = ["-i", inventory["vars"]["ansible_ssh_private_key_file"]]
        login = f"{inventory['vars']['ansible_user']}@{self.address}"
        self._ssh = ["ssh", "-o", "BatchMode=yes", *shared_connection(), *common, *identity, login]

    def run(self, command: str, send: bytes = b"", seconds: int = 900) -> str:
        """Raises NodeError when the command fails."""
        done = subprocess.run(
            [*self._ssh, f"sudo bash -c {shlex.quote(command)}"],
            input=send,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            raise NodeError(f"{command}: {done.stderr.decode()[-2000:]}{done.stdout.decode()[-2000:]}")
        return done.stdout.decode()

    def put(self, path: str, data: str | bytes) -> None:
        raw = data.encode() if isinstance(data, str) else data
        self.run(f"mkdir -p {Path(path).parent} && cat > {path}", raw)

    def start(self, unit: str, command: str, environment: str = "") -> None:
        self.stop(unit)
        self.run(f"systemd-run --quiet --collect --unit={unit} -p LimitNOFILE=20000 {environment} {command}")

    def stop(self, unit: str) -> None:
        self.run(f"systemctl stop {unit} 2>/dev/null || true; systemctl reset-failed {unit} 2>/dev/null || true")

    def cost(self, unit: str) -> tuple[float, int]:
        """(CPU seconds since its start, resident KiB) of a unit."""
        pid = f"$(systemctl show -P MainPID {unit})"
        cpu, memory = self.run(f"python3 {FOLDER}/cost.py {pid}").split()
        return float(cpu), int(memory)

    def wait(self, command: str, what: str, seconds: float = 120) -> None:
        """Until the command succeeds. Raises NodeError with its last words after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.run(command)
            except NodeError as error:
                if time.monotonic() > end:
                    raise NodeError(f"{what}: not within {seconds:.0f} s: {error}") from error
                time.sleep(0.3)
            else:
                return
