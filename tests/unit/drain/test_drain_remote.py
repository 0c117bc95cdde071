"""The programs that run on balancers and monitors, run as they are run there, against the sockets and pages they talk to."""

import http.server
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rackserve.fleet import maintenance, replies
from rackserve.fleet.errors import RefusedError
from rackserve.fleet.maintenance import Silenced, Window
from rackserve.fleet.ssh import CommandHost
from rackserve.fleet.workers import Workers

HERE = CommandHost("lb1", "192.0.2.1", (sys.executable, "-"))
PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
900             master          2               0d00h01m00s     3.0.11
# workers
950             worker          0               0d00h00m10s     3.0.11
# old workers
940             worker          1               0d00h00m50s     3.0.11
930             worker          2               0d00h01m00s     3.0.11
# programs

"""
STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 engines 1 e1 192.0.2.1 2 0 100
3 engines 2 e2 192.0.2.2 0 8 100
3 engines 3 e3 192.0.2.3 2 1 100
3 engines 4 e4 192.0.2.4 2 20 100

"""


class Talker:
    """A socket that answers each connection's one line."""

    def __init__(self, path: Path, answer: Callable[[str], str]) -> None:
        self.path, self._answer = path, answer
        self.asked: list[str] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                line = connection.recv(65536).decode().strip()
                self.asked.append(line)
                connection.sendall(self._answer(line).encode())
                # As the master does: it closes when the other side has.
                while connection.recv(65536):
                    pass

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(timeout=5)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Workers, list[str]]]:
    """Two old processes, of which one ends between being listed and being asked."""

    def master(line: str) -> str:
        if line == "show proc":
            return PROC
        return "Can't find the target PID matching the prefix '@!930'\n" if "930" in line else "\n"

    talkers = [Talker(tmp_path / "admin", lambda line: "No such server.\n" if "e9" in line else "\n")]
    talkers.append(Talker(tmp_path / "master", master))
    yield Workers(HERE, str(tmp_path / "admin"), str(tmp_path / "master")), talkers[1].asked
    for one in talkers:
        one.close()


def test_old_processes_are_asked_through_the_master(workers: tuple[Workers, list[str]]) -> None:
    replies_of, asked = workers
    found = replies_of.ask(["show a"], ["show b", "show c"])
    assert (found.current, dict(found.old), found.unknown) == (("\n",), {"940": ("\n", "\n")}, "")
    assert asked == ["show proc", "@!940 show b", "@!940 show c", "@!930 show b", "@!930 show c"]


def test_a_setter_that_is_not_done_is_an_error(workers: tuple[Workers, list[str]]) -> None:
    workers[0].tell(["set server engines/e1 state drain"])
    with pytest.raises(RefusedError, match="set server engines/e9 state drain; it said: No such server"):
        workers[0].tell(["set server engines/e9 state drain"])


def test_without_a_master_socket_it_is_said_that_old_ones_are_not_known(tmp_path: Path) -> None:
    talker = Talker(tmp_path / "admin", lambda line: "\n")
    found = Workers(HERE, str(talker.path), str(tmp_path / "nobody")).ask(["show a"], ["show b"])
    talker.close()
    assert "nobody: " in found.unknown
    assert not found.old


def test_what_operators_want_is_read_apart_from_checks_and_from_what_is_inherited() -> None:
    found = replies.wills(STATE)
    assert {name: (one.drained, one.maintained, one.running) for name, one in found.items()} == {
        "e1": (False, False, True),
        "e2": (True, False, False),
        "e3": (False, True, True),
        "e4": (False, False, True),
    }
    for broken in ("", "1\n", "Can't find backend.\n", STATE.replace("192.0.2.1 2 0", "192.0.2.1 2 x")):
        with pytest.raises(replies.UnreadableReply):
            replies.wills(broken)


Handler = Callable[[str, str, Any], tuple[int, Any]]


@pytest.fixture
def web() -> Iterator[Callable[[Handler], int]]:
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(handle: Handler) -> int:
        class Request(http.server.BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                text = self.rfile.read(length)
                status, body = handle(self.command, self.path, json.loads(text) if text else None)
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _do

            def log_message(self, *words: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Request)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_engines_own_figures_and_answers(web: Callable[[Handler], int]) -> None:
    page = (
        '# HELP x\nvllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 1.0\n'
        'vllm:num_requests_waiting{engine="0"} 4.0\nvllm:num_requests_waiting_by_reason{reason="x"} 9\n'
    )
    asked: list[Any] = []

    def handle(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/metrics":
            return 200, page
        asked.append(body)
        return (500, "broken") if len(body["prompt"]) > 100 else (200, {"usage": {"completion_tokens": 1}})

    url = f"http://127.0.0.1:{web(handle)}"
    look = {"e1": {"url": url, "seconds": 5}, "gone": {"url": "http://127.0.0.1:9", "seconds": 5}}
    said = HERE.call("engines", {"action": "look", "engines": look}, 20)
    assert (said["e1"]["running"], said["e1"]["waiting"], said["e1"]["error"]) == (3, 4, "")
    assert (said["gone"]["running"], said["gone"]["refused"]) == (None, True)
    one = {"url": url, "key": "k", "model": "m", "prompts": [(16, 1), (200, 2), (16, 1)], "seconds": 5}
    told = HERE.call("engines", {"action": "talk", "engines": {"e1": one}}, 20)["e1"]
    assert [answer["error"] for answer in told] == ["", "HTTP 500: broken"], "the first failure ends it"
    assert [(len(body["prompt"]), body["max_tokens"]) for body in asked] == [(16, 1), (200, 2)]


def test_a_page_without_the_figures_is_not_zero(web: Callable[[Handler], int]) -> None:
    url = f"http://127.0.0.1:{web(lambda method, path, body: (200, 'other 1'))}"
    said = HERE.call("engines", {"action": "look", "engines": {"e1": {"url": url, "seconds": 5}}}, 20)["e1"]
    assert (said["running"], said["refused"]) == (None, False)
    assert "has no vllm:num_requests_running" in said["error"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "candidates/one/maps"
    folder.mkdir(parents=True)
    (folder / "maintenance.map").write_text("large 4000000000\nold 100\n")
    (tmp_path / "current").symlink_to("candidates/one")
    return tmp_path


def change(root: Path, **more: Any) -> Any:
    asked = {"directory": str(root), "map": "maps/maintenance.map", "now": 2_000_000_000, "put": {}, "drop": []}
    return HERE.call("maintenance", asked | more, 20)


def test_the_map_of_maintenance_is_changed_in_place_and_forgets_what_has_ended(root: Path) -> None:
    file = root / "current/maps/maintenance.map"
    file.chmod(0o640)
    change(root, put={"small": "3000000000"})
    assert file.read_text() == "large 4000000000\nsmall 3000000000\n"
    assert file.stat().st_mode & 0o777 == 0o640
    change(root, drop=["large"])
    change(root, drop=["large"])
    assert file.read_text() == "small 3000000000\n"
    assert [path.name for path in file.parent.iterdir()] == ["maintenance.map"]


def test_a_balancer_without_the_map_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"run site\.yml"):
        change(tmp_path, put={"small": "3000000000"})


PLAN = {
    "balancers": ["lb1"],
    "monitors": ["lb1"],
    "pools": {"small": {}, "large": {}},
    "engines": [
        {"name": "s1", "pool": "small", "node": "gpu1"},
        {"name": "s2", "pool": "small", "node": "gpu2"},
        {"name": "l2", "pool": "large", "node": "gpu2"},
    ],
}


def test_silences_are_of_the_pool_its_engines_and_nodes_that_do_nothing_else() -> None:
    made = maintenance.silences(PLAN, Window("small", 0, 1800, "ann@desk", "new driver"))
    assert [(one["matchers"][0]["name"], one["matchers"][0]["value"]) for one in made] == [
        ("pool", "small"),
        ("engine", "s1|s2"),
        ("server", "s1|s2"),
        ("node", "gpu1"),
    ]
    assert {(one["startsAt"], one["endsAt"], one["createdBy"], one["comment"]) for one in made} == {
        (
            "1970-01-01T00:00:00+00:00",
            "1970-01-01T00:30:00+00:00",
            "ann@desk",
            "rackserve maintenance small: new driver",
        )
    }


def test_the_dead_mans_alert_is_never_silenced() -> None:
    (whole,) = maintenance.silences(PLAN, Window("all", 0, 1800, "ann@desk"))
    assert whole["matchers"] == [{"name": "alertname", "value": "Watchdog", "isRegex": False, "isEqual": False}]


def test_a_new_silence_takes_the_place_of_the_one_before_and_off_ends_it(web: Callable[[Handler], int]) -> None:
    held: dict[str, Any] = {"other": {"comment": "somebody else's", "status": {"state": "active"}, "id": "other"}}

    def handle(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            name = f"id{len(held)}"
            held[name] = {**body, "id": name, "status": {"state": "active"}}
            return 200, {"silenceID": name}
        if method == "DELETE":
            held[path.rsplit("/", 1)[1]]["status"] = {"state": "expired"}
            return 200, ""
        return 200, list(held.values())

    port = web(handle)

    def active() -> list[str]:
        return sorted(name for name, one in held.items() if one["status"]["state"] == "active")

    window = Window("small", 0, 1800, "ann@desk")
    first = maintenance.silence([HERE], port, PLAN, window)
    assert isinstance(first, Silenced)
    assert active() == sorted([*first.made, "other"])
    second = maintenance.silence([HERE], port, PLAN, window)
    assert isinstance(second, Silenced)
    assert (set(second.ended), active()) == (set(first.made), sorted([*second.made, "other"]))
    maintenance.unsilence([HERE], port, "small")
    assert active() == ["other"]


def test_an_alertmanager_that_is_not_there_is_told_and_stops_nothing() -> None:
    told = maintenance.unsilence([HERE], 9, "small")
    assert not isinstance(told, Silenced)
    assert "Connection refused" in str(told["lb1"])


def record(root: Path, action: str, holder: str = "ann#1", **more: Any) -> Any:
    fields = {"by": "ann", "since": 1.0, "step": "draining"}
    asked = {
        "action": action,
        "directory": str(root),
        "holder": holder,
        "stale_seconds": 30,
        "dead": [],
        "engines": {"e1": fields},
    }
    return HERE.call("drains", asked | more, 20)


def test_a_broken_record_is_an_error_and_never_none(tmp_path: Path) -> None:
    record(tmp_path, "hold")
    (tmp_path / "e1.json").write_text("{")
    for action in ("read", "hold", "keep"):
        with pytest.raises(RefusedError, match=r"e1\.json is broken"):
            record(tmp_path, action)


def test_a_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is no name of an engine"):
        record(tmp_path, "hold", engines={"../x": {}})
