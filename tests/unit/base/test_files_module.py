"""The module that keeps many files: right files stay, wrong ones are replaced, what it must not destroy is refused."""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[3] / "plugins/modules/rackserve_files.py"
spec = importlib.util.spec_from_file_location("rackserve_files", SOURCE)
assert spec is not None
assert spec.loader is not None
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def entry(path: Path, **changes: Any) -> dict[str, Any]:
    return {"path": str(path), "state": "file", "content": "right\n", "mode": None, **ME, **changes}


def test_a_missing_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    diff = files.apply(entry(path, mode="0640"), False)
    assert (diff["before"], diff["after"]) == ("", "right\n")
    assert path.read_text() == "right\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert files.apply(entry(path, mode="0640"), False) is None


def test_check_mode_tells_the_difference_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("wrong\n")
    assert files.apply(entry(path), True)["before"] == "wrong\n"
    assert path.read_text() == "wrong\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_mode_alone_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("right\n")
    path.chmod(0o666)
    diff = files.apply(entry(path), False)
    assert diff["before_header"] == f"{path} (0666, {os.getuid()}:{os.getgid()})"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_link_in_place_of_a_file_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "a"
    target.write_text("of somebody else\n")
    path.symlink_to(target)
    files.apply(entry(path), False)
    assert not path.is_symlink()
    assert target.read_text() == "of somebody else\n"


def test_a_directory_in_place_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    with pytest.raises(files.Refused, match=f"{path} should be a file"):
        files.apply(entry(path), False)


def test_directories_are_made_and_files_removed(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    assert files.apply(entry(directory, state="directory", content=None, mode="0750"), False) is not None
    assert directory.stat().st_mode & 0o777 == 0o750
    assert files.apply(entry(directory / "a"), False) is not None
    assert files.apply(entry(directory / "a", state="absent"), False) is not None
    assert list(directory.iterdir()) == []
    assert files.apply(entry(directory / "a", state="absent"), False) is None


def test_a_full_directory_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    with pytest.raises(OSError, match="not empty"):
        files.apply(entry(tmp_path / "d", state="absent"), False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"owner": "no-such-user"}, "no-such-user.*create it first"),
        ({"mode": "rw-r"}, "octal digits"),
        ({"content": None}, "a file needs content"),
    ],
)
def test_a_bad_entry_is_refused_and_nothing_is_written(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(files.Refused, match=words):
        files.apply(entry(tmp_path / "a", **changes), False)
    assert list(tmp_path.iterdir()) == []


class Module:
    """As much of AnsibleModule as the judgement of a candidate asks for; programs are really run."""

    def __init__(self, directory: Path, check_mode: bool = False) -> None:
        self.tmpdir, self.check_mode = str(directory), check_mode

    def get_bin_path(self, name: str) -> str | None:
        return shutil.which(name)

    def run_command(self, command: list[str], cwd: str) -> tuple[int, str, str]:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def accept(root: Path, *command: str) -> dict[str, Any]:
    return {"directory": str(root), "command": list(command)}


def test_the_program_judges_all_files_of_its_directory_together_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "etc"
    entries = [entry(root / "a"), entry(root / "b/c", content="new\n"), entry(tmp_path / "etcetera/d")]
    said = files.refusal(Module(tmp_path), entries, accept(root, "sh", "-c", "find . -type f | sort; cat b/c; exit 1"))
    assert said.endswith(": ./a\n./b/c\nnew")
    assert not root.exists(), "the candidate lies elsewhere"
    assert list(tmp_path.iterdir()) == [], "and goes away"


def test_what_the_program_accepts_or_has_accepted_before_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert files.refusal(Module(tmp_path), [entry(path)], accept(tmp_path, "true")) == ""
    assert files.refusal(Module(tmp_path), [entry(path)], accept(tmp_path, "false")) == "false: exit code 1"
    path.write_text("right\n")
    assert files.refusal(Module(tmp_path), [entry(path)], accept(tmp_path, "false")) == ""


def test_without_the_program_nothing_is_accepted_except_in_check_mode(tmp_path: Path) -> None:
    judge = accept(tmp_path, "no-such-program")
    assert "install it first" in files.refusal(Module(tmp_path), [entry(tmp_path / "a")], judge)
    assert files.refusal(Module(tmp_path, check_mode=True), [entry(tmp_path / "a")], judge) == ""
