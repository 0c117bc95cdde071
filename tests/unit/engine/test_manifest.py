"""A model's directory against its manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils import rackserve_atomic, rackserve_manifest

FILES = {"config.json": "{}", "model.safetensors": "weights", "deep/tokenizer.json": "[]"}


@pytest.fixture
def place(tmp_path: Path) -> rackserve_manifest.Place:
    """A whole model, as after it was sealed."""
    found = rackserve_manifest.Place(tmp_path, "tiny", "1")
    for name, text in FILES.items():
        (found.final / name).parent.mkdir(parents=True, exist_ok=True)
        (found.final / name).write_text(text)
    manifest = {"files": rackserve_manifest.describe(found.final)}
    manifest["digest"] = rackserve_manifest.content_digest(manifest)
    found.manifest.write_text(rackserve_atomic.canonical(manifest))
    return found


def test_a_whole_model_is_complete(place: rackserve_manifest.Place) -> None:
    assert rackserve_manifest.examine(place, full=True) == rackserve_manifest.Finding("complete")


def test_a_cut_file_is_named_with_both_sizes(place: rackserve_manifest.Place) -> None:
    (place.final / "model.safetensors").write_text("wei")
    finding = rackserve_manifest.examine(place, full=False)
    assert (finding.state, finding.bad) == ("damaged", ["model.safetensors (3 bytes, should be 7)"])


def test_other_content_of_the_same_size_is_found_by_its_time(place: rackserve_manifest.Place) -> None:
    (place.final / "model.safetensors").write_text("WEIGHTS")
    os.utime(place.final / "model.safetensors", (1, 1))
    assert rackserve_manifest.examine(place, full=False).bad == ["model.safetensors (other content)"]


def test_other_content_of_the_same_size_and_time_is_found_by_reading(place: rackserve_manifest.Place) -> None:
    path = place.final / "model.safetensors"
    time = path.stat().st_mtime_ns
    path.write_text("WEIGHTS")
    os.utime(path, ns=(time, time))
    assert rackserve_manifest.examine(place, full=False).state == "complete"
    assert rackserve_manifest.examine(place, full=True).bad == ["model.safetensors (other content)"]


def test_the_same_content_with_another_time_needs_no_source(place: rackserve_manifest.Place) -> None:
    os.utime(place.final / "deep/tokenizer.json", (1, 1))
    finding = rackserve_manifest.examine(place, full=False)
    assert (finding.bad, finding.touched) == ([], ["deep/tokenizer.json"])
    rackserve_manifest.tidy(place, finding)
    assert rackserve_manifest.examine(place, full=False).state == "complete"


def test_a_missing_and_a_foreign_file_are_both_named(place: rackserve_manifest.Place) -> None:
    (place.final / "config.json").unlink()
    (place.final / "other.safetensors").touch()
    finding = rackserve_manifest.examine(place, full=False)
    assert (finding.bad, finding.extra) == (["config.json (missing)"], ["other.safetensors"])


def test_a_link_is_no_file(place: rackserve_manifest.Place) -> None:
    path = place.final / "config.json"
    path.rename(place.root / "elsewhere")
    path.symlink_to(place.root / "elsewhere")
    assert rackserve_manifest.examine(place, full=False).bad == ["config.json (missing)"]


def test_a_manifest_that_was_changed_proves_nothing(place: rackserve_manifest.Place) -> None:
    text = place.manifest.read_text()
    sha256 = rackserve_manifest.read_manifest(place)["files"]["config.json"]["sha256"]
    place.manifest.write_text(text.replace(sha256, "0" * 64))
    assert rackserve_manifest.examine(place, full=False).state == "unproven"


def test_the_digest_of_the_content_does_not_know_times(place: rackserve_manifest.Place) -> None:
    before = rackserve_manifest.describe(place.final)
    os.utime(place.final / "config.json", (1, 1))
    after = rackserve_manifest.describe(place.final)
    assert before != after
    assert rackserve_manifest.content_digest({"files": before}) == rackserve_manifest.content_digest({"files": after})


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({}, "it has no config.json"),
        ({"config.json": {"size": 2}}, "it has no weights"),
        ({"config.json": {"size": 2}, "a.safetensors": {"size": 0}}, "a.safetensors is empty"),
    ],
)
def test_what_is_no_model_is_refused(described: dict[str, dict[str, int]], reason: str) -> None:
    assert reason in rackserve_manifest.refused(described)


def test_the_launcher_and_the_module_see_the_same_files(place: rackserve_manifest.Place) -> None:
    """If they did not, every run would restart every engine."""
    from .conftest import load

    launcher = load("roles/vllm/files/engine.py", "engine_launcher")
    assert launcher.model_stamp(place.final) == rackserve_atomic.model_stamp(place.final)
