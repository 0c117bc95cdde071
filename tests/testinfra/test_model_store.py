"""Models on the nodes: every byte as the manifest says, readable by the engines, writable by root alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://gpu_nodes"]

ROOT = "/opt/rackserve/models"


@pytest.fixture
def manifests(host: Host, plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By directory. Where the inventory has a definition, each model that this node's engines use must have one."""
    paths = str(host.check_output("find %s -mindepth 2 -maxdepth 2 -name '*.manifest.json'", ROOT)).split()
    assert paths, "no model on this node"
    found = {path.removesuffix(".manifest.json"): json.loads(host.check_output("cat %s", path)) for path in paths}
    if plan:
        engines = [engine for engine in plan["engines"] if engine["node"] == host.backend.host]
        releases = [plan["releases"][engine["release"]] for engine in engines]
        wanted = {f"{ROOT}/{release['model']}/{release['model_revision']}" for release in releases}
        assert wanted <= set(found)
    return found


def test_every_file_has_the_content_of_the_manifest(host: Host, manifests: dict[str, dict[str, Any]]) -> None:
    for folder, manifest in manifests.items():
        lines = host.check_output("cd %s && find . -type f -print0 | xargs -0 sha256sum", folder).splitlines()
        found = {line.split("  ", 1)[1].removeprefix("./"): line.split("  ", 1)[0] for line in lines}
        assert found == {name: entry["sha256"] for name, entry in manifest["files"].items()}, folder


def test_each_directory_is_a_model(host: Host, manifests: dict[str, dict[str, Any]]) -> None:
    for folder, manifest in manifests.items():
        assert host.file(f"{folder}/config.json").size > 0
        assert [name for name in manifest["files"] if name.endswith((".safetensors", ".bin", ".gguf", ".pt"))], folder


def test_files_belong_to_root_and_are_readable_by_the_engines(host: Host, manifests: dict[str, dict[str, Any]]) -> None:
    for folder in manifests:
        assert host.check_output("find %s ! -user root -o -perm /022 -o ! -perm -004", folder) == ""


def test_nothing_half_copied_is_left(host: Host) -> None:
    left = host.check_output("find %s -mindepth 1 -maxdepth 2 -name '.*' ! -path '*/.tools*'", ROOT)
    assert left == ""
