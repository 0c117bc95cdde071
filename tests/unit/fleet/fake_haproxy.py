"""HAProxy's admin socket, played: one command per connection, answers word for word as HAProxy 3.0 gives them."""

import socket
import threading
from pathlib import Path
from types import TracebackType

HEADER = "# pxname,svname,qcur,scur,slim,status,weight,"


class FakeHaproxy:
    """`maps` and `states` are what the process holds; `said` overrides an answer by the command's beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.maps: dict[str, dict[str, str]] = {}
        self.states: dict[tuple[str, str], str] = {}
        self.said: dict[str, str] = {}
        self.commands: list[str] = []
        self._prepared: dict[tuple[str, str], dict[str, str]] = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "FakeHaproxy":
        self._server.bind(str(self.path))
        self._server.listen(16)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                text = b""
                while not self._whole(text):
                    if not (piece := connection.recv(65536)):
                        break
                    text += piece
                command = text.decode().rstrip("\n")
                self.commands.append(command)
                connection.sendall(self._answer(command).encode())

    @staticmethod
    def _whole(text: bytes) -> bool:
        """A payload ends with an empty line, a plain command with its own line."""
        return text.endswith(b"\n\n") if b"<<\n" in text else text.endswith(b"\n")

    def _answer(self, command: str) -> str:
        for beginning, reply in self.said.items():
            if command.startswith(beginning):
                return reply
        head, _, payload = command.partition(" <<\n")
        words = head.split(" ")
        if words[1:2] == ["map"]:
            return self._map(words[0], words[2:], payload)
        if words[:2] == ["set", "server"]:
            backend, server = words[2].split("/")
            if (backend, server) not in self.states:
                return "No such server.\n\n"
            self.states[backend, server] = {"ready": "UP", "drain": "DRAIN", "maint": "MAINT"}[words[4]]
            return "\n"
        if words[:2] == ["show", "stat"]:
            rows = [f"{backend},{server},0,1,8,{state},100," for (backend, server), state in self.states.items()]
            return "\n".join([HEADER, "api,FRONTEND,,1,100,OPEN,,", *rows]) + "\n\n"
        return f'Unknown command: "{words[0]}", but maybe one of the following ones is a better match:\n'

    def _map(self, verb: str, words: list[str], payload: str) -> str:
        version = words.pop(0)[1:] if words[0].startswith("@") else ""
        name, *rest = words
        if name not in self.maps:
            return "Unknown map identifier. Please use #<id> or <name>.\n\n"
        entries = self._prepared.setdefault((name, version), {}) if version else self.maps[name]
        match verb:
            case "show":
                return "".join(f"0x55d1 {key} {value}\n" for key, value in entries.items()) + "\n"
            case "get":
                found = rest[0] in entries
                tail = f', key="{rest[0]}", value="{entries[rest[0]]}", type="str"' if found else ""
                return f"type=str, case=sensitive, found={'yes, idx=tree' if found else 'no'}{tail}\n\n"
            case "add":
                lines = payload.splitlines() if payload else [" ".join(rest)]
                for line in filter(None, lines):
                    key, value = line.split(" ", 1)
                    entries[key] = value
            case "set":
                if rest[0] not in entries:
                    return "entry not found.\n\n"
                entries[rest[0]] = " ".join(rest[1:])
            case "del":
                if entries.pop(rest[0], None) is None:
                    return "Key not found.\n\n"
            case "prepare":
                return "New version created: 2\n\n"
            case "commit":
                self.maps[name] = self._prepared.pop((name, version), {})
        return "\n"
