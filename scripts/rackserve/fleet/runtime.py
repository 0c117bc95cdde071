"""The running HAProxy of one balancer, in our words. Every write is read back; nothing is turned into an empty value."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rackserve.fleet import replies
from rackserve.fleet.errors import NonsenseError, RefusedError
from rackserve.fleet.ssh import Host

T = TypeVar("T")
SOCKET = "/run/haproxy/admin.sock"
# HAProxy reads a command and its payload into one buffer; lines are sent in portions that fit the smallest one.
_PORTION = 8000
_STATES = {"ready": ("UP", "no check", "DRAIN", "DOWN"), "drain": ("DRAIN",), "maint": ("MAINT",)}
_WORD = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Overview:
    """One process at one moment. `value`: of the entry that was asked for, None: there is none. `entries`: of the whole map
    that was asked for."""

    information: Mapping[str, str]
    statistics: Sequence[Mapping[str, str]]
    value: str | None
    entries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime:
    """`deadline_seconds` bounds each call, the way there included."""

    host: Host
    socket: str = SOCKET
    deadline_seconds: float = 15

    def entries(self, map_name: str) -> dict[str, str]:
        return self._read(f"show map {map_name}", replies.map_entries)

    def entry(self, map_name: str, key: str) -> str | None:
        return self._read(f"get map {map_name} {_word(key)}", replies.map_value)

    def put_entry(self, map_name: str, key: str, value: str) -> None:
        """Adds or changes. `add map` alone would make a second entry of the same key."""
        verb = "add" if self.entry(map_name, key) is None else "set"
        self._write(f"{verb} map {map_name} {_word(key)} {value}")
        self._must_be(map_name, key, value)

    def drop_entry(self, map_name: str, key: str) -> None:
        """Removes every entry of the key; that there is none is not an error."""
        while self.entry(map_name, key) is not None:
            self._write(f"del map {map_name} {_word(key)}")

    def replace_entries(self, map_name: str, wanted: Mapping[str, str]) -> None:
        """The whole map in one step: requests see the old entries or the new ones."""
        version = self._read(f"prepare map {map_name}", _version)
        portion = ""
        for key, value in [*wanted.items(), ("", "")]:
            line = f"{_word(key)} {value}\n" if key else ""
            if portion and (not line or len(portion) + len(line) > _PORTION):
                self._write(f"add map @{version} {map_name} <<\n{portion}")
                portion = ""
            portion += line
        self._write(f"commit map @{version} {map_name}")
        found = self.entries(map_name)
        if found != dict(wanted):
            differing = next(key for key in [*wanted, *found] if found.get(key) != wanted.get(key))
            raise NonsenseError(self.host.name, f"commit map {map_name}", f"after it, {differing!r} reads differently")

    def servers(self) -> list[replies.ServerState]:
        return self._read("show stat -1 4 -1", replies.server_states)

    def statistics(self) -> list[dict[str, str]]:
        return self._read("show stat", replies.statistics)

    def information(self) -> dict[str, str]:
        return self._read("show info", replies.information)

    def overview(self, map_name: str, key: str, whole_map: str) -> "Overview":
        """What a screen shows, in one call: `show info`, `show stat`, one value of a map and all of another."""
        commands = ["show info", "show stat", f"get map {map_name} {_word(key)}", f"show map {whole_map}"]
        information, statistics, entry, whole = self._ask(commands)
        try:
            value = self._parsed(commands[2], entry, replies.map_value)
        except RefusedError:
            # A process from before this map. It cannot say.
            value = None
        try:
            entries = self._parsed(commands[3], whole, replies.map_entries)
        except RefusedError:
            entries = {}
        return Overview(
            self._parsed(commands[0], information, replies.information),
            self._parsed(commands[1], statistics, replies.statistics),
            value,
            entries,
        )

    def set_server_state(self, backend: str, server: str, state: str) -> None:
        """`ready`, `drain` (no new requests, checks go on) or `maint`."""
        if state not in _STATES:
            raise ValueError(f"state {state!r}; one of {', '.join(_STATES)}")
        command = f"set server {_word(backend)}/{_word(server)} state {state}"
        self._write(command)
        found = [one.status for one in self.servers() if (one.backend, one.server) == (backend, server)]
        # A server that follows another's health says so in brackets: MAINT (via engines/e1), UP 1/3.
        if not found or not found[0].startswith(_STATES[state]):
            raise NonsenseError(self.host.name, command, f"after it the state is {found[0] if found else 'unknown'}")

    def _must_be(self, map_name: str, key: str, value: str) -> None:
        found = self.entry(map_name, key)
        if found != value:
            raise NonsenseError(self.host.name, f"set map {map_name} {key} {value}", f"after it the value is {found!r}")

    def _read(self, command: str, parse: Callable[[str], T]) -> T:
        return self._parsed(command, self._ask([command])[0], parse)

    def _parsed(self, command: str, reply: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(reply)
        except replies.UnreadableReply as error:
            # Refusals are sentences ("Unknown map identifier."); what has no known form is shown as it is.
            kind = RefusedError if reply.strip().endswith(".") else NonsenseError
            raise kind(self.host.name, command, reply) from error

    def _write(self, command: str) -> None:
        """Setters are silent when they have done it: any other answer is a refusal."""
        reply = self._ask([command])[0]
        if reply.strip():
            raise RefusedError(self.host.name, command.splitlines()[0], reply)

    def _ask(self, commands: Sequence[str]) -> list[str]:
        asked = {"socket": self.socket, "commands": list(commands), "seconds": self.deadline_seconds}
        answers = self.host.call("admin_socket", asked, self.deadline_seconds)
        if not isinstance(answers, list) or len(answers) != len(commands):
            raise NonsenseError(self.host.name, commands[0].splitlines()[0], repr(answers)[:200])
        return [str(answer) for answer in answers]


def _version(reply: str) -> str:
    """`prepare map` answers: New version created: 3"""
    match = re.search(r"New version created: (\d+)", reply)
    if match is None:
        raise replies.UnreadableReply(reply)
    return match[1]


def _word(text: str) -> str:
    """One word of a command: a space or a semicolon in it would make another command."""
    if not _WORD.fullmatch(text) or ";" in text or text.startswith("#"):
        raise ValueError(f"{text!r} cannot be sent to HAProxy as one word")
    return text
