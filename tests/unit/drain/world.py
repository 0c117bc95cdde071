"""Two balancers and two engines, played at the Host protocol: what is set is read back, records are the real program's."""

import contextlib
import importlib.util
import io
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from rackserve.fleet.drain.fleet import Fleet, Paths, engines_of
from rackserve.fleet.errors import RefusedError, UnreachableError

REMOTE = Path(__file__).resolve().parents[3] / "scripts/rackserve/fleet/remote"
PLAN: dict[str, Any] = {
    "balancers": ["lb1", "lb2"],
    "monitors": ["m1"],
    "ports": {"prometheus": 9090},
    "pools": {
        "small": {
            "engines": ["e1", "e2"],
            "slots_per_balancer": 4,
            "timeouts": {"generation_seconds": 60},
            "health": {"interval_seconds": 1, "rise": 2, "token_deadline_seconds": 10},
        }
    },
    "releases": {"small-1": {"model": "tiny"}},
    "models": {"tiny": {"context_tokens": 2048}},
    "engines": [
        {
            "name": name,
            "pool": "small",
            "node": node,
            "address": f"192.0.2.{number}",
            "port": 8001,
            "release": "small-1",
            "served_names": ["small"],
        }
        for number, (name, node) in enumerate((("e1", "gpu1"), ("e2", "gpu2")), 1)
    ],
}
DRAIN, MAINTENANCE = 8, 1
HEADER = "# pxname,svname,qcur,scur,slim,status,weight,"


def program(name: str) -> ModuleType:
    """A remote program, as a module."""
    spec = importlib.util.spec_from_file_location(f"remote_{name}", REMOTE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_DRAINS = program("drains")
_ALONE = threading.Lock()


def drains(argument: dict[str, Any]) -> Any:
    said = io.StringIO()
    with _ALONE, contextlib.redirect_stdout(said):
        try:
            _DRAINS.answer(argument)
        except SystemExit as error:
            raise RefusedError("192.0.2.9", "drains", str(error)) from error
    return json.loads(said.getvalue())


@dataclass
class PlayedBalancer:
    """`streams` by engine end one at each look, unless `stuck`. `down`: it cannot be reached."""

    name: str
    world: "World"
    bits: dict[str, int] = field(default_factory=lambda: {"e1": 0, "e2": 0})
    streams: dict[str, int] = field(default_factory=lambda: {"e1": 0, "e2": 0})
    old: dict[str, dict[str, int]] = field(default_factory=dict)
    down: bool = False
    deaf: bool = False
    maintenance: dict[str, int] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def call(self, program: str, argument: Any, deadline_seconds: float) -> Any:
        self.world.count(program)
        if self.down:
            raise UnreachableError("192.0.2.9", program, "no route to host")
        if program == "drains":
            return drains(argument)
        if program == "engines":
            return self.world.engines(argument)
        if program == "server_state":
            return "saved"
        assert program == "workers", program
        current = [self._command(one, self.bits, self.streams) for one in argument["commands"]]
        old = {
            process: [self._command(one, self.bits, streams) for one in argument["old_commands"]]
            for process, streams in self.old.items()
        }
        if not self.world.stuck and any("show stat" in one for one in argument["commands"]):
            for streams in (self.streams, *self.old.values()):
                for name, bits in self.bits.items():
                    streams[name] = max(streams.get(name, 0) - bool(bits), 0)
        return {"current": current, "old": old, "unknown": ""}

    def _command(self, command: str, bits: dict[str, int], streams: dict[str, int]) -> str:
        self.commands.append(command)
        if command == "show servers state engines":
            lines = [
                f"3 engines 1 {name} 192.0.2.1 {0 if name in self.world.dead else 2} {bits.get(name, 0)}"
                for name in self.bits
            ]
            header = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state"
            return "\n".join(["1", header, *lines]) + "\n\n"
        if command.startswith("show stat"):
            rows = [
                f"pool-small-stable,{name},0,{streams.get(name, 0)},4,{self._status(bits.get(name, 0), name)},100,"
                for name in self.bits
            ]
            return "\n".join([HEADER, *rows]) + "\n\n"
        if command.startswith("show map"):
            return "".join(f"0x1 {key} {value}\n" for key, value in self.maintenance.items()) + "\n"
        if match := re.fullmatch(r"set server engines/(\w+) state (\w+)", command):
            if not self.deaf:
                bits[match[1]] = {"drain": DRAIN, "maint": MAINTENANCE, "ready": 0}[match[2]]
            return "\n"
        if match := re.fullmatch(r"shutdown sessions server pool-small-stable/(\w+)", command):
            streams[match[1]] = 0
            self.world.cut += 1
            return "\n"
        return "\n" if command.startswith("shutdown") else f"Unknown command: {command}\n"

    def _status(self, bits: int, name: str) -> str:
        return (
            "MAINT (via engines/e1)"
            if bits & MAINTENANCE
            else "DOWN"
            if name in self.world.dead
            else ("DRAIN" if bits else "UP")
        )


class Killed(BaseException):
    """The command is killed: nothing of it goes on, not even what tidies up."""


class World:
    """`die_at`: the call at which the command is killed. `silent`: engines that give no token. `dead`: whose checks fail."""

    def __init__(self, folder: Path) -> None:
        self.balancers = [PlayedBalancer(name, self) for name in ("lb1", "lb2")]
        self.stuck = False
        self.silent: dict[str, str] = {}
        self.dead: set[str] = set()
        self.cut = self.calls = 0
        self.die_at: int | None = None
        self.talked: list[tuple[str, int]] = []
        self.peak: Any = [3, 86_400]
        paths = {one.name: Paths("/s", "/m", "/c", ("saver",), str(folder / one.name)) for one in self.balancers}
        self.fleet = Fleet(PLAN, engines_of(PLAN), self.balancers, [Monitor(self)], paths, "key")

    def count(self, program: str) -> None:
        if self.die_at is not None and self.calls >= self.die_at:
            raise Killed
        self.calls += 1

    def engines(self, argument: dict[str, Any]) -> Any:
        if argument["action"] == "look":
            return {name: self._page(name) for name in argument["engines"]}
        for name, one in argument["engines"].items():
            self.talked += [(name, letters) for letters, _ in one["prompts"]]
        return {
            name: [{"error": self.silent[name]} if name in self.silent else {"error": "", "seconds": 0.1, "tokens": 1}]
            for name in argument["engines"]
        }

    def _page(self, name: str) -> dict[str, Any]:
        if name in self.dead:
            return {"running": None, "waiting": None, "refused": False, "error": "timed out"}
        total = sum(one.streams[name] + sum(old.get(name, 0) for old in one.old.values()) for one in self.balancers)
        return {"running": total, "waiting": 0, "refused": False, "error": ""}

    def tick(self) -> tuple[Callable[[], float], Callable[[float], None]]:
        """A clock that moves when somebody sleeps."""
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        return lambda: now[0], sleep


@dataclass
class Monitor:
    world: World
    name: str = "m1"

    def call(self, program: str, argument: Any, deadline_seconds: float) -> Any:
        if self.world.peak is None:
            raise UnreachableError("192.0.2.8", program, "no route to host")
        values = dict(zip(("peak small", "known small"), self.world.peak, strict=True))
        results = {name: [{"metric": {}, "value": [1.0, str(value)]}] for name, value in values.items()}
        return {"now": 1.0, "results": results, "refused": {}, "alerts": []}
