"""The module that makes a running process agree with its files: what it reads from the process, and what it does about it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[3] / "plugins/modules/rackserve_daemon.py"
spec = importlib.util.spec_from_file_location("rackserve_daemon", SOURCE)
assert spec is not None
assert spec.loader is not None
daemon = importlib.util.module_from_spec(spec)
spec.loader.exec_module(daemon)

METRIC = "prometheus_config_last_reload"
PAGE = f"""# HELP {METRIC}_successful Whether the last configuration reload attempt was successful.
# TYPE {METRIC}_successful gauge
{METRIC}_successful 1
{METRIC}_success_timestamp_seconds 1.7643e+09
prometheus_ready 1
"""


def page(successful: bool = True, taken_at: float = 1000) -> Any:
    return daemon.Page("", successful, taken_at)


def test_the_page_says_whether_and_when_the_last_reload_succeeded() -> None:
    assert daemon.parse(PAGE, METRIC)[1:] == (True, 1.7643e9)
    assert daemon.parse(PAGE.replace("_successful 1", "_successful 0"), METRIC)[1:] == (False, 1.7643e9)


def test_a_page_without_these_figures_and_no_page_have_taken_nothing() -> None:
    assert daemon.parse("up 1\n", METRIC)[1:] == (False, 0)
    assert daemon.parse(None, METRIC)[1:] == (False, 0)
    assert daemon.parse(None, "")[1:] == (False, 0)


@pytest.mark.parametrize(
    ("now", "newest", "before", "taken"),
    [
        (page(taken_at=1000), 999, None, True),
        (page(taken_at=1000), 1001, None, False),
        (page(successful=False, taken_at=1000), 999, None, False),
        # The clock was set back: the file is in the future.
        (page(taken_at=1000), 5000, page(taken_at=900), True),
        (page(taken_at=1000), 5000, page(taken_at=1000), False),
        (page(successful=False, taken_at=1000), 5000, page(taken_at=900), False),
    ],
)
def test_a_file_is_taken_by_a_load_that_succeeded_after_it(now: Any, newest: float, before: Any, taken: bool) -> None:
    assert daemon.has_taken(now, newest, before) is taken


@pytest.mark.parametrize(
    ("active", "enabled", "running", "taken", "actions"),
    [
        ("active", "enabled", ["--a"], True, []),
        ("active", "enabled", ["--a"], False, ["reload"]),
        ("reloading", "enabled", ["--a"], True, []),
        ("active", "enabled", ["--b"], False, ["restart"]),
        ("active", "enabled", ["--a", "--b"], True, ["restart"]),
        ("active", "disabled", ["--a"], True, ["enable"]),
        ("inactive", "disabled", [], False, ["enable", "start"]),
        ("failed", "enabled", [], False, ["start"]),
        ("activating", "enabled", [], False, ["start"]),
    ],
)
def test_only_what_differs_is_done_and_a_start_needs_no_reload(
    active: str, enabled: str, running: list[str], taken: bool, actions: list[str]
) -> None:
    state = {"ActiveState": active, "UnitFileState": enabled}
    assert daemon.decide(state, running, ["--a"], taken) == actions


class Ended(Exception):
    """The module's end, with its message."""


class Module:
    """A host where every command succeeds. `pages`: what the process answers, one after the other; the last one stays."""

    def __init__(self, pages: list[Any], state: str = "active") -> None:
        self.pages, self.state, self.commands = pages, state, list[str]()
        self.params = {
            "name": "demo.service",
            "url": "http://demo",
            "arguments": ["--a"],
            "reload_metric": METRIC,
            "lines": [],
            "wait_seconds": 0.5,
        }

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        self.commands.append(" ".join(command[1:3]))
        shown = f"LoadState=loaded\nUnitFileState=enabled\nActiveState={self.state}\nMainPID=1\n"
        return 0, shown if "show" in command else "said by the daemon", ""

    def fail_json(self, msg: str) -> None:
        raise Ended(msg)


class Daemon(daemon.Daemon):  # type: ignore[misc, name-defined]
    def page(self) -> Any:
        pages: list[Any] = self.module.pages
        return pages.pop(0) if len(pages) > 1 else pages[0]

    def arguments(self, process: str) -> list[str]:
        return ["--a"]


def agree(module: Module, file: Path, check_mode: bool = False) -> list[str]:
    found: list[str] = daemon.agree(Daemon(module), ["--a"], [str(file)], METRIC, check_mode)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yml"
    path.write_text("new\n")
    return path


def test_a_process_that_has_taken_the_file_is_left_alone(file: Path) -> None:
    module = Module([page(taken_at=file.stat().st_mtime + 1)])
    assert agree(module, file) == []
    assert [command for command in module.commands if not command.startswith("show")] == []


def test_a_process_that_has_not_is_reloaded_until_it_has(file: Path) -> None:
    newest = file.stat().st_mtime
    module = Module([page(taken_at=newest - 9), page(taken_at=newest - 9), page(taken_at=newest + 1)])
    assert agree(module, file) == ["reload"]
    assert "reload demo.service" in module.commands


def test_check_mode_tells_it_and_does_nothing(file: Path) -> None:
    module = Module([page(taken_at=file.stat().st_mtime - 9)])
    assert agree(module, file, check_mode=True) == ["reload"]
    assert "reload demo.service" not in module.commands


def test_a_refused_reload_fails_with_the_journal(file: Path) -> None:
    module = Module([page(taken_at=1), page(successful=False, taken_at=1)])
    with pytest.raises(Ended, match=r"refuses the new configuration(?s:.)*said by the daemon"):
        agree(module, file)


def test_a_process_that_keeps_the_old_configuration_fails_after_the_time_it_has(file: Path) -> None:
    with pytest.raises(Ended, match=r"after 0\.5 s it goes on with the configuration that it had before"):
        agree(Module([page(taken_at=1)]), file)


def test_a_unit_that_does_not_stay_up_fails_at_once(file: Path) -> None:
    module = Module([daemon.Page(None, False, 0)], state="failed")
    with pytest.raises(Ended, match="does not stay up"):
        agree(module, file)
    assert "reset-failed demo.service" in module.commands


def test_a_line_that_its_page_lacks_is_named(file: Path) -> None:
    module = Module([page(taken_at=file.stat().st_mtime + 1)])
    module.params["lines"] = ["works 1"]
    with pytest.raises(Ended, match="its page lacks works 1"):
        agree(module, file)
