"""promtool of Debian 13 in the lab node: the version that the monitors run. The package has no service."""

import io
import re
import secrets
import tarfile
from collections.abc import Mapping
from typing import Any

import yaml

from gateway.balancer import Node


def install(node: Node) -> None:
    node.run(
        "command -v promtool >/dev/null || { export DEBIAN_FRONTEND=noninteractive; "
        "apt-get update -q && apt-get install -yq --no-install-recommends promtool; }"
    )


class Promtool:
    """Several rule files and their tests in one process."""

    def __init__(self, node: Node) -> None:
        self.node = node
        install(node)

    def check(self, rules: Mapping[str, Any]) -> str:
        """What `check rules` says; raises when it refuses."""
        return self._in_node({"rules.yml": rules}, "promtool check rules --lint-fatal rules.yml 2>&1")

    def failing(self, tests: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> dict[str, str]:
        """Tests by name, each (groups of rules, test file). Those that fail, with what promtool says of them."""
        files: dict[str, Any] = {}
        for name, (groups, body) in tests.items():
            files[f"{name}.rules.yml"] = {"groups": groups}
            files[f"{name}.test.yml"] = {"rule_files": [f"{name}.rules.yml"], **body}
        # One process uses one core; with two, neither waits for the other's slow half.
        halves = [" ".join(f"{name}.test.yml" for name in list(tests)[first::2]) for first in (0, 1)]
        started = " ".join(
            f"promtool test rules {names} >{number}.out 2>&1 &" for number, names in enumerate(halves) if names
        )
        said = self._in_node(files, f"{started} wait; cat *.out")
        parts = re.split(r"^Unit Testing:\s+(\S+)\.test\.yml$", said, flags=re.MULTILINE)[1:]
        answers = dict(zip(parts[::2], parts[1::2], strict=True))
        assert answers.keys() == tests.keys(), f"promtool left files out: {said[:2000]}"
        assert all(("SUCCESS" in one) != ("FAILED" in one) for one in answers.values()), said[:2000]
        return {name: one for name, one in answers.items() if "FAILED" in one}

    def _in_node(self, files: Mapping[str, Any], command: str) -> str:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, body in files.items():
                data = yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False, width=1000).encode()
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
        # In memory: each test group makes a database of its own, in the directory for temporary files.
        folder = f"/dev/shm/promtool-{secrets.token_hex(4)}"
        run = f"mkdir -p {folder}/tmp && cd {folder} && tar -xf - && export TMPDIR={folder}/tmp && {{ {command}; }}"
        return self.node.run(f"trap 'rm -rf {folder}' EXIT; {run}", archive.getvalue())
