"""The client of HAProxy's runtime API against a socket that speaks its protocol."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rackserve.fleet import replies
from rackserve.fleet.balancers import on_each
from rackserve.fleet.errors import FleetError, NonsenseError, RefusedError, TimedOutError, UnreachableError
from rackserve.fleet.runtime import Runtime
from rackserve.fleet.ssh import CommandHost, Host, host_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from unit.fleet.fake_haproxy import FakeHaproxy

KEYS = "maps/keys.map"
HERE = (sys.executable, "-")


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[FakeHaproxy]:
    with FakeHaproxy(tmp_path / "admin.sock") as fake:
        fake.maps[KEYS] = {"aa": "demo/one"}
        fake.states = {("engines", "e1"): "UP"}
        yield fake


@pytest.fixture
def runtime(haproxy: FakeHaproxy) -> Runtime:
    return Runtime(CommandHost("lb1", "192.0.2.1", HERE), str(haproxy.path))


def test_entries_are_added_changed_and_removed(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    runtime.put_entry(KEYS, "bb", "demo/two")
    runtime.put_entry(KEYS, "aa", "demo/other")
    assert runtime.entries(KEYS) == {"aa": "demo/other", "bb": "demo/two"}
    runtime.drop_entry(KEYS, "aa")
    runtime.drop_entry(KEYS, "aa")
    assert haproxy.maps[KEYS] == {"bb": "demo/two"}
    assert runtime.entry(KEYS, "aa") is None


def test_a_whole_map_is_replaced_in_one_step(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    wanted = {f"{number:064x}": f"demo/{number}" for number in range(300)}
    runtime.replace_entries(KEYS, wanted)
    assert haproxy.maps[KEYS] == wanted
    assert len([command for command in haproxy.commands if command.startswith("add map @2")]) > 2, "in portions"


def test_a_map_can_become_empty(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    runtime.replace_entries(KEYS, {})
    assert haproxy.maps[KEYS] == {}


def test_a_server_is_drained_and_comes_back(runtime: Runtime) -> None:
    runtime.set_server_state("engines", "e1", "drain")
    assert [(one.server, one.status) for one in runtime.servers()] == [("e1", "DRAIN")]
    runtime.set_server_state("engines", "e1", "ready")
    assert runtime.servers() == [replies.ServerState("engines", "e1", "UP", 100, 1, 0, 8)]


def test_a_write_that_reads_differently_is_an_error_with_both_values(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    haproxy.said["set map"] = "\n"
    with pytest.raises(NonsenseError, match=r"lb1: .*set map maps/keys.map aa new; .*the value is 'demo/one'"):
        runtime.put_entry(KEYS, "aa", "new")


def test_a_server_that_does_not_follow_is_an_error(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    haproxy.said["set server"] = "\n"
    with pytest.raises(NonsenseError, match="after it the state is UP"):
        runtime.set_server_state("engines", "e1", "maint")


def test_a_refusal_names_host_command_and_first_line(runtime: Runtime) -> None:
    with pytest.raises(RefusedError, match=r"lb1: refused: show map maps/none.map; it said: Unknown map identifier"):
        runtime.entries("maps/none.map")
    with pytest.raises(RefusedError, match="set server engines/e9 state drain; it said: No such server"):
        runtime.set_server_state("engines", "e9", "drain")


def test_nonsense_is_not_turned_into_an_empty_value(runtime: Runtime, haproxy: FakeHaproxy) -> None:
    haproxy.said = {"show map": "hello\n", "get map": "type=str\n", "show stat": "\n", "prepare": "\n"}
    for ask in (
        lambda: runtime.entries(KEYS),
        lambda: runtime.entry(KEYS, "aa"),
        lambda: runtime.servers(),
        lambda: runtime.replace_entries(KEYS, {}),
    ):
        with pytest.raises(NonsenseError):
            ask()


@pytest.mark.parametrize("word", ["a b", "a;show", "a\nb", "", "#1"])
def test_a_word_that_would_be_another_command_is_never_sent(runtime: Runtime, haproxy: FakeHaproxy, word: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        runtime.put_entry(KEYS, word, "x")
    assert not haproxy.commands


def test_a_socket_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"nobody\.sock: .*No such file"):
        Runtime(CommandHost("lb1", "192.0.2.1", HERE), str(tmp_path / "nobody.sock")).entries(KEYS)


def test_no_way_to_the_host_is_unreachable() -> None:
    host = CommandHost("lb1", "192.0.2.1", ("sh", "-c", "echo no route to host >&2; exit 255"))
    with pytest.raises(UnreachableError, match=r"192\.0\.2\.1: could not be reached: .*no route to host"):
        Runtime(host).entries(KEYS)
    with pytest.raises(UnreachableError, match="No such file"):
        Runtime(CommandHost("lb1", "192.0.2.1", ("/nonexistent/ssh",))).entries(KEYS)


def test_what_ssh_says_about_sharing_a_connection_hides_no_reason() -> None:
    chatter = "ControlSocket /x/rackserve-1 already exists, disabling multiplexing"
    for code, error in ((1, RefusedError), (255, UnreachableError)):
        host = CommandHost("lb1", "192.0.2.1", ("sh", "-c", f"echo '{chatter}' >&2; echo because >&2; exit {code}"))
        with pytest.raises(error, match="it said: because"):
            Runtime(host).entries(KEYS)


def test_no_answer_before_the_deadline_is_a_timeout() -> None:
    host = CommandHost("lb1", "192.0.2.1", ("sleep", "30"))
    with pytest.raises(TimedOutError, match=r"nothing within 0\.2 s"):
        Runtime(host, deadline_seconds=0.2).entries(KEYS)


def test_an_answer_that_is_no_json_is_nonsense() -> None:
    with pytest.raises(NonsenseError, match="it said: Welcome"):
        Runtime(CommandHost("lb1", "192.0.2.1", ("echo", "Welcome!"))).entries(KEYS)


def test_partial_success_is_a_result_of_its_own(runtime: Runtime) -> None:
    class Down:
        name = "lb2"

        def call(self, program: str, argument: object, deadline_seconds: float) -> object:
            raise UnreachableError("192.0.2.2", program)

    hosts: list[Host] = [runtime.host, Down()]
    outcome = on_each(hosts, lambda host: Runtime(host, runtime.socket).entries(KEYS))
    assert outcome.done == {"lb1": {"aa": "demo/one"}}
    assert (list(outcome.failed), outcome.complete, outcome.exit_code) == (["lb2"], False, 3)


def test_a_bug_is_not_a_result(runtime: Runtime) -> None:
    def broken(host: Host) -> None:
        raise KeyError(host.name)

    with pytest.raises(KeyError):
        on_each([runtime.host], broken)


def test_the_host_is_reached_as_ansible_would() -> None:
    variables = {
        "ansible_host": "192.0.2.7",
        "ansible_user": "admin",
        "ansible_become": True,
        "ansible_port": 2222,
        "ansible_ssh_private_key_file": "/k",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/kh",
    }
    command = " ".join(host_of("lb1", variables).command)
    assert "-o UserKnownHostsFile=/kh -i /k -p 2222 -- admin@192.0.2.7 sudo -n python3 -" in command
    assert "sudo" not in " ".join(host_of("lb1", variables | {"ansible_user": "root"}).command)
    assert host_of("lb1", {"ansible_connection": "local"}).command == HERE


def test_what_is_sent_stands_in_no_process_list(runtime: Runtime) -> None:
    """Everything travels on standard input: the command line is the same whatever is asked."""
    assert isinstance(runtime.host, CommandHost)
    assert runtime.host.command == HERE


def test_every_error_is_a_fleet_error_with_an_exit_code() -> None:
    kinds = (UnreachableError, TimedOutError, RefusedError, NonsenseError)
    assert [kind("a", "b").exit_code for kind in kinds] == [3, 3, 1, 1]
    assert all(issubclass(kind, FleetError) for kind in kinds)
