"""The programs that run on a balancer: a share goes whatever else fails, comes only for a run that is watched, and goes by itself
when nobody is heard of any more."""

import json
import sys
import syslog
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rackserve.fleet.remote import canary_runs, canary_watchdog, shares

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from unit.fleet.fake_haproxy import FakeHaproxy

MAP = "maps/shares.map"
STATE = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n4 pool-chat-canary 1 e3 192.0.2.1 2 0\n"
)
STABLE = STATE.replace("-canary 1 e3", "-stable 1 e1")
BACKEND = ("pool-chat-canary", "BACKEND")


class Node:
    """A balancer's files, its HAProxy, and what was written to its journal."""

    def __init__(self, root: Path, haproxy: FakeHaproxy, journal: list[str]) -> None:
        self.root, self.haproxy, self.journal = root, haproxy, journal
        self.file, self.record = root / "current" / MAP, root / "runs/chat.json"
        self.asked: dict[str, Any] = {
            "pool": "chat",
            "tracks": ["stable", "baseline", "canary"],
            "directory": str(root),
            "seconds": 5,
            "socket": str(haproxy.path),
            "master": str(haproxy.path),
            "records": str(root / "runs"),
            "by": "ann@desk",
            "where": "",
            "why": "scripts/rollback",
            "hard": False,
            "run": "run-1",
            "release": "chat-5",
            "stop": True,
            "final": True,
            "force": False,
            "news": {},
        }

    def back(self, **more: Any) -> dict[str, Any]:
        return shares.back(self.asked | more)

    def give(self, action: str, value: str = "50/50", **more: Any) -> dict[str, Any]:
        return shares.give(self.asked | {"action": action, "value": value} | more)

    def begin(self, seconds: float = 60, **more: Any) -> dict[str, Any]:
        self.record.parent.mkdir(exist_ok=True)
        return canary_runs.begin(self.record, self.asked | {"watchdog_seconds": seconds} | more)

    def beat(self, **news: Any) -> dict[str, Any]:
        return canary_runs.beat(self.record, self.asked | {"news": news})

    def age(self, seconds: float, **more: Any) -> None:
        """The last beat was so long ago."""
        moment = canary_runs.now()
        record = json.loads(self.record.read_text())
        self.record.write_text(json.dumps(record | moment | {"beat": moment["beat"] - seconds} | more))

    def shared(self) -> tuple[str | None, str | None]:
        """Live and in the file."""
        return self.haproxy.maps[MAP].get("chat"), shares.lines_of(self.file)[0].get("chat")

    def watch(self) -> bool:
        places = ("records", "directory", "socket", "master", "seconds")
        return canary_watchdog.watch(self.record, {name: self.asked[name] for name in places})


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    (tmp_path / "candidates/one/maps").mkdir(parents=True)
    (tmp_path / "current").symlink_to("candidates/one")
    (tmp_path / "current" / MAP).write_text("other 20/20\n")
    journal: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, text: journal.append(text))
    with FakeHaproxy(tmp_path / "admin.sock") as haproxy:
        haproxy.maps[MAP] = {"other": "20/20"}
        haproxy.states[BACKEND] = "UP"
        haproxy.said = {
            "show proc": "# workers\n950 worker\n",
            "show servers state pool-chat-stable": STABLE,
            "show servers state pool-chat-canary": STATE,
        }
        yield Node(tmp_path, haproxy, journal)


@pytest.fixture
def shared(node: Node) -> Node:
    node.begin()
    node.give("file")
    node.give("live")
    node.journal.clear()
    return node


def test_a_share_is_given_in_the_file_and_live_and_others_keep_theirs(node: Node) -> None:
    node.file.chmod(0o640)
    node.begin()
    assert node.give("file") == {"before": None, "after": "50/50"}
    assert node.shared() == (None, "50/50")
    assert node.give("live") == {"before": None, "after": "50/50"}
    node.give("file", "100/100")
    node.give("live", "100/100")
    assert node.shared() == ("100/100", "100/100")
    assert (node.file.read_text(), node.haproxy.maps[MAP]["other"]) == ("chat 100/100\nother 20/20\n", "20/20")
    assert node.file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (node.root / "current").iterdir()] == ["maps"], "nothing is left beside it"
    assert node.journal[-1] == "pool chat: share 50/50 -> 100/100; by ann@desk: scripts/rollback"


def test_no_share_without_a_run_that_is_watched(node: Node) -> None:
    for action in ("file", "live"):
        with pytest.raises(SystemExit, match="there is no record of a run"):
            node.give(action)
    node.begin()
    with pytest.raises(SystemExit, match="the run on it is run-1"):
        node.give("file", run="run-2")
    with pytest.raises(SystemExit, match="is no share"):
        node.give("file", "50/50\nchat 1/1")
    assert node.shared() == (None, None)


def test_back_takes_it_live_first_and_stops_its_run(shared: Node) -> None:
    told = shared.back()
    assert (told["live_before"], told["file_before"], told["run"]) == ("50/50", "50/50", "run-1")
    assert [told[key] for key in told if key.endswith("_error")] == ["", "", "", ""]
    assert shared.shared() == (None, None)
    assert shared.file.read_text() == "other 20/20\n"
    assert shared.journal == [
        "pool chat: share 50/50 -> 0, in the file 50/50 -> 0; by ann@desk: scripts/rollback",
    ]
    with pytest.raises(SystemExit, match=r"ann@desk has stopped it \(scripts/rollback\)"):
        shared.give("live")
    assert shared.beat()["stopped"]["by"] == "ann@desk"


def test_back_again_has_nothing_to_do_and_says_nothing(shared: Node) -> None:
    shared.back()
    shared.journal.clear()
    told = shared.back()
    assert (told["live_before"], told["file_before"], shared.journal) == (None, None, [])


def test_a_disk_that_takes_nothing_does_not_keep_the_share_live(shared: Node) -> None:
    # mkstemp needs the directory: what a full or broken disk comes to, also for root.
    shared.file.unlink()
    told = shared.back()
    assert "is not there: run site.yml" in told["file_error"]
    assert (told["live_error"], shared.haproxy.maps[MAP].get("chat")) == ("", None)
    assert not json.loads(shared.record.read_text())["stopped"]["done"]


def test_records_that_cannot_be_had_keep_nothing_back(shared: Node) -> None:
    told = shared.back(records=str(shared.file))
    assert (told["live_error"], told["file_error"]) == ("", "")
    assert told["run_error"]
    assert shared.shared() == (None, None)


def test_a_haproxy_that_does_not_answer_finds_no_share_when_it_starts(shared: Node, tmp_path: Path) -> None:
    told = shared.back(socket=str(tmp_path / "gone.sock"))
    assert told["live_error"]
    assert shares.lines_of(shared.file)[0].get("chat") is None


def test_what_somebody_added_twice_or_by_hand_goes_too(shared: Node) -> None:
    shared.haproxy.maps[MAP]["chat"] = "nonsense"
    shared.file.write_text("chat nonsense\nchat 7/7\nother 20/20\n")
    assert shared.back()["file_before"] == "nonsense"
    assert (shared.shared(), shared.file.read_text()) == ((None, None), "other 20/20\n")


def test_hard_ends_the_sessions_of_the_canarys_servers_only(shared: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # The played process counts one session for each server for ever: it is asked until the time is up.
    monkeypatch.setattr(shares, "CUT_SECONDS", 0.05)
    shared.haproxy.states = {("pool-chat-canary", "e3"): "UP", BACKEND: "UP"}
    shared.haproxy.said["shutdown sessions"] = "\n"
    shared.back(hard=True)
    cut = {command for command in shared.haproxy.commands if command.startswith("shutdown")}
    assert cut == {"shutdown sessions server pool-chat-canary/e3"}


BOOT = {"boot": "b1", "beat": 1000.0}


@pytest.mark.parametrize(
    ("record", "fires"),
    [
        ({}, False),
        ({"beat": 940.0}, False),
        ({"beat": 939.0}, True),
        ({"beat": 1001.0}, True),
        ({"boot": "b0", "beat": 5.0}, True),
        ({"beat": None}, True),
        ({"watchdog_seconds": "long"}, True),
        ({"beat": 10.0, "stopped": {"done": True}}, False),
        ({"stopped": {"done": False}}, True),
    ],
    ids=["now", "in-time", "late", "future", "rebooted", "no-beat", "no-limit", "stopped", "half-stopped"],
)
def test_when_the_watchdog_fires(record: dict[str, Any], fires: bool) -> None:
    whole = {"run": "run-1", "watchdog_seconds": 60, "stopped": None, **BOOT, **record}
    assert bool(canary_watchdog.due(whole, BOOT)) is fires


def test_after_a_reboot_the_controller_has_its_time_again() -> None:
    record = {"run": "run-1", "watchdog_seconds": 60, "stopped": None, "boot": "b0", "beat": 99999.0}
    assert canary_watchdog.due(record, {"boot": "b1", "beat": 59.0}) == ""
    assert "61 s" in canary_watchdog.due(record, {"boot": "b1", "beat": 61.0})


def test_the_watchdog_fires_once_after_silence_and_not_before(shared: Node) -> None:
    shared.age(59)
    assert shared.watch()
    assert (shared.shared(), shared.journal) == (("50/50", "50/50"), [])
    shared.age(61)
    assert shared.watch()
    assert shared.shared() == (None, None)
    (line,) = shared.journal
    assert "by the watchdog: the controller of run run-1 has been silent for 61 s, and 60 s are allowed" in line
    assert shared.watch()
    assert len(shared.journal) == 1
    assert shared.beat()["stopped"]["done"]
    with pytest.raises(SystemExit, match="the watchdog has stopped it"):
        shared.give("live")


def test_a_heartbeat_keeps_the_share(shared: Node) -> None:
    shared.age(61)
    assert shared.beat() == {"taken": None, "stopped": None}
    assert shared.watch()
    assert shared.shared() == ("50/50", "50/50")


def test_the_watchdog_tries_again_until_haproxy_has_heard_it(
    shared: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.age(61)
    there = shared.asked["socket"]
    shared.asked["socket"] = str(tmp_path / "gone.sock")
    assert not shared.watch()
    assert "not all of it could be done" in capsys.readouterr().err
    assert shared.shared() == ("50/50", None)
    shared.asked["socket"] = there
    assert shared.watch()
    assert shared.shared() == (None, None)


def test_its_own_controller_goes_on_after_the_watchdog_but_not_after_a_rollback(shared: Node) -> None:
    shared.age(61)
    assert shared.watch()
    assert shared.begin() == {"taken": None, "silent_seconds": 0.0}
    shared.give("file")
    shared.give("live")
    assert shared.shared() == ("50/50", "50/50")
    shared.age(61)
    assert shared.watch()
    shared.back()
    assert shared.begin()["taken"]["stopped"]["by"] == "ann@desk"


def test_a_controller_that_lowers_its_own_share_may_give_another(shared: Node) -> None:
    assert shared.back(stop=False)["run"] is None
    assert shared.shared() == (None, None)
    shared.give("file")
    shared.give("live")
    assert shared.shared() == ("50/50", "50/50")


def test_what_stable_could_not_carry_stays_and_is_told_once(shared: Node) -> None:
    assert shared.beat(fall_back=False, watchdog_seconds=30)["taken"] is None
    shared.age(31)
    assert shared.watch()
    assert shared.watch()
    assert shared.shared() == ("50/50", "50/50")
    (line,) = shared.journal
    assert "stays as it is, because stable could not carry it; by the watchdog: the controller of run run-1" in line
    shared.beat(fall_back=True)
    shared.age(31)
    assert shared.watch()
    assert shared.shared() == (None, None)


@pytest.mark.parametrize("bits", [1, 2, 8, 16, 32, 64, 5])
def test_without_an_engine_in_stable_nothing_is_done_unless_forced(shared: Node, bits: int) -> None:
    shared.haproxy.said["show servers state pool-chat-stable"] = STABLE.replace(" 2 0", f" 2 {bits}")
    told = shared.back()
    assert (told["refused"] != "", told["stable"]) == (True, (0, 1))
    assert (shared.shared(), shared.beat()["stopped"]) == (("50/50", "50/50"), None)
    assert not shared.back(force=True)["refused"]
    assert shared.shared() == (None, None)


@pytest.mark.parametrize(("state", "serves"), [(" 2 0", True), (" 2 4", True), (" 0 0", False), (" 1 0", True)])
def test_an_engine_is_in_service_when_it_is_up_and_nobody_has_taken_it_out(
    shared: Node, state: str, serves: bool
) -> None:
    shared.haproxy.said["show servers state pool-chat-stable"] = STABLE.replace(" 2 0", state)
    assert (shared.back()["refused"] == "") is serves


def test_a_broken_record_is_no_reason_to_trust(shared: Node, capsys: pytest.CaptureFixture[str]) -> None:
    shared.record.write_text("{")
    assert not shared.watch()
    assert shared.shared() == (None, None)
    assert "is broken" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="is broken"):
        shared.begin()


def test_a_second_run_is_told_of_the_first_and_may_follow_when_that_is_dead(node: Node) -> None:
    node.begin()
    assert node.begin(run="run-2", by="bob@desk")["taken"]["by"] == "ann@desk"
    assert node.begin()["taken"] is None, "its own controller, after it was killed"
    node.age(61)
    assert node.begin(run="run-2")["taken"] is None
    assert node.beat()["taken"]["run"] == "run-2"


def test_a_run_that_was_stopped_does_not_begin_again(shared: Node) -> None:
    shared.back()
    assert shared.begin()["taken"]["stopped"]["by"] == "ann@desk"
    assert shared.begin(run="run-2")["taken"] is None


def test_a_run_ends_when_its_share_has_gone(shared: Node) -> None:
    with pytest.raises(SystemExit, match="still has a share"):
        canary_runs.end(shared.record, shared.asked)
    shared.back()
    assert canary_runs.end(shared.record, shared.asked | {"run": "run-2"})["taken"]["run"] == "run-1"
    assert canary_runs.end(shared.record, shared.asked) == {"taken": None}
    assert not shared.record.exists()
