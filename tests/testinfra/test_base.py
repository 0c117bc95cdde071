"""What every node has before anything serves on it, asked from the running system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

DEFAULTS = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/base/defaults/main.yml").read_text())


@pytest.fixture
def wanted(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: variables.get(name, value) for name, value in DEFAULTS.items()}


@pytest.fixture
def container(host: Host) -> str:
    kind = str(host.run("systemd-detect-virt --container").stdout.strip())
    return "" if kind == "none" else kind


def test_packages_are_installed(host: Host, wanted: dict[str, Any]) -> None:
    missing = [name for name in wanted["base_packages"] if not host.package(name).is_installed]
    assert not missing


def test_directories_belong_to_root_and_are_not_writable_by_others(host: Host, wanted: dict[str, Any]) -> None:
    for path in wanted["base_directories"]:
        directory = host.file(path)
        assert (directory.is_directory, directory.user, directory.mode) == (True, "root", 0o755), path


def test_the_group_of_the_operators_exists(host: Host, wanted: dict[str, Any]) -> None:
    group = host.group(wanted["base_group"])
    assert group.exists
    assert group.gid < 1000, "a system group"


def test_a_new_service_may_open_many_files(host: Host, wanted: dict[str, Any]) -> None:
    limits = host.check_output("systemd-run --quiet --wait --pipe sh -c 'ulimit -Sn; ulimit -Hn'").split()
    most = int(host.check_output("sh -c 'ulimit -Hn'")) if limits[1] != "unlimited" else wanted["base_open_files_hard"]
    # A container cannot give more than its host allows.
    assert int(limits[0]) == min(wanted["base_open_files_soft"], int(limits[1])), limits
    assert int(limits[1]) in (wanted["base_open_files_hard"], most), limits


def test_the_journal_survives_a_boot_and_knows_its_limits(
    host: Host, wanted: dict[str, Any], plan: dict[str, Any]
) -> None:
    assert host.file("/var/log/journal").is_directory
    # journald says what it goes by each time it opens the persistent journal.
    usage = host.check_output(
        "journalctl --no-pager --output=json --lines=1 MESSAGE_ID=%s JOURNAL_NAME='System Journal'",
        "ec387f577b844b8fa948f33cad9a75e6",
    )
    entry = json.loads(usage)
    assert entry["JOURNAL_PATH"].startswith("/var/log/journal/"), entry
    # Of a whole service the definition says it; journald itself takes less on a small disk.
    most = plan["retention"]["journal_gib"] * 2**30 if plan else size(wanted["base_journal_max_use"])
    assert int(entry["MAX_USE"]) <= most, entry["MESSAGE"]
    assert int(entry["DISK_KEEP_FREE"]) >= size(wanted["base_journal_keep_free"]), entry["MESSAGE"]


def size(text: str) -> int:
    return int(text[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[text[-1]]


def test_the_running_kernel_has_the_settings_that_are_this_nodes(
    host: Host, wanted: dict[str, Any], container: str
) -> None:
    wrong: list[str] = []
    for setting in wanted["base_sysctl"]:
        live = host.run("cat /proc/sys/%s", setting["name"].replace(".", "/"))
        if live.rc != 0 or (container and not setting["name"].startswith("net.")):
            continue
        if live.stdout.split() != setting["value"].split():
            wrong.append(f"{setting['name']} is {live.stdout.strip()!r}, wanted {setting['value']!r}")
    assert not wrong, "\n".join(wrong)


def test_the_clock_is_kept_by_this_machine_or_by_the_host_of_this_container(
    host: Host, wanted: dict[str, Any], container: str
) -> None:
    service = host.service(wanted["base_time_service"])
    if container:
        assert not service.is_running, "a container must not set its host's clock"
    elif wanted["base_time_service"] != "none":
        assert service.is_enabled
        assert service.is_running
        assert host.check_output("timedatectl show --property=NTPSynchronized --value") == "yes"
