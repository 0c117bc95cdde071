"""scripts/keys on the lab: both balancers follow at once, site.yml finds nothing to do, no plain key is left anywhere."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import REPOSITORY, Service, node, playbook

WHERE = "/etc/haproxy /var/lib/haproxy /run/haproxy /var/log /root /home /tmp /opt/rackserve/state"


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Path]:
    """A copy to edit; at the end the balancers are brought back to the repository's own."""
    copy = tmp_path / "lab"
    shutil.copytree(REPOSITORY / "inventory" / "lab", copy)
    yield copy
    keys("sync", "-i", str(REPOSITORY / "inventory" / "lab"))


def keys(*arguments: str) -> dict[str, Any]:
    command = [str(REPOSITORY / "scripts/keys"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def statuses(service: Service, key: str) -> list[int]:
    headers = {"authorization": f"Bearer {key}"}
    return [httpx.get(f"{url}/v1/models", headers=headers, timeout=10).status_code for url in service.urls.values()]


def test_a_key_lives_and_dies_on_both_balancers_and_site_finds_nothing_to_do(service: Service, inventory: Path) -> None:
    answer = keys("new", "demo", "-i", str(inventory))
    key = str(answer["key"])
    assert statuses(service, key) == [200, 200]
    assert playbook("--tags", "haproxy", inventory=inventory).changed() == []

    rotated = keys("rotate", "demo", "--key", answer["id"], "-i", str(inventory))
    assert statuses(service, key) == [200, 200], "both are valid during a rotation"
    assert statuses(service, str(rotated["key"])) == [200, 200]
    assert playbook("--tags", "haproxy", inventory=inventory).changed() == []

    keys("revoke", "demo", answer["id"], "-i", str(inventory))
    assert statuses(service, key) == [401, 401]
    assert statuses(service, str(rotated["key"])) == [200, 200]


@pytest.mark.parametrize("name", ["lb1", "lb2"])
def test_no_plain_key_is_left_on_a_balancer(service: Service, inventory: Path, name: str) -> None:
    key = str(keys("new", "demo", "-i", str(inventory))["key"])
    assert statuses(service, key) == [200, 200]
    assert playbook("--tags", "haproxy", inventory=inventory).status == 0

    def found() -> list[str]:
        script = (
            f'grep --recursive --files-with-matches --fixed-strings -- "$0" {WHERE} 2>/dev/null; '
            'journalctl --quiet --no-pager --output=cat | grep --fixed-strings --quiet -- "$0" && echo journal; '
            'for process in /proc/[0-9]*; do [ "${process#/proc/}" = $$ ] || '
            '{ tr "\\\\0" " " < $process/cmdline | grep -v "grep " | grep --fixed-strings --quiet -- "$0" '
            "&& echo process; }; done 2>/dev/null; true"
        )
        out = node(name, "sh", "-c", script, key).split()
        return sorted({line for line in out if line != "process"})

    node(name, "sh", "-c", 'echo "planted $0" > /var/log/planted', key)
    assert found() == ["/var/log/planted"], "the search finds a planted key, and no other"
    node(name, "rm", "/var/log/planted")
    assert found() == []
    assert not [path for path in inventory.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
