"""A command, run as an operator runs it: the lab's inventory and an `ssh` that runs programs here or finds no way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LINES = "/var/log/rackserve/requests"


class Surroundings:
    """`folder` has HAProxy's socket, the request lines (`requests`) and programs that go before the system's own."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder, self.script, self.inventory = folder, script, folder / "lab"
        self.requests = folder / "requests"
        self.requests.mkdir()
        shutil.copytree(REPOSITORY / "inventory/lab", self.inventory)
        variables = self.inventory / "group_vars/all/played.yml"
        variables.write_text(f"haproxy_runtime_directory: {folder}\n")
        self.ways("198.18.0.11")

    def ways(self, *addresses: str) -> None:
        """Only these addresses can be reached."""
        here = f"sed 's#{LINES}#{self.requests}#' | {sys.executable} -; exit $?"
        known = "".join(f"*@{address}\\ *) {here};;\n" for address in addresses)
        self.program("ssh", f'case "$*" in\n{known}esac\necho "no route to host" >&2\nexit 255\n')

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "COLUMNS": "150"}

    def command(self, *arguments: str) -> list[str]:
        return [str(REPOSITORY / "scripts" / self.script), "-i", str(self.inventory), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
