"""Receivers of events: each gets what it asked for, and none stops the run."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from rackserve.canary.run.world import Event
from rackserve.canary.world.hooks import Hooks
from rackserve.definition.models.canary import Hook

EVENT = Event(kind="held", run="r1", pool="small", by="ann@desk", said="held: no figures")


def program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_gets_the_event_as_json_and_only_the_events_it_asked_for(tmp_path: Path) -> None:
    told: list[str] = []
    command = program(tmp_path / "hook", f"cat > {tmp_path}/told")
    hooks = Hooks([Hook(event="held", command=command)], told.append)
    hooks.tell(EVENT.model_copy(update={"kind": "promoted"}))
    hooks.wait()
    assert not (tmp_path / "told").exists()
    hooks.tell(EVENT)
    hooks.wait()
    assert Event.model_validate_json((tmp_path / "told").read_text()) == EVENT
    assert told == []


def test_a_receiver_that_fails_hangs_or_is_missing_is_named_and_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    hooks = Hooks(
        [
            Hook(event="held", command=program(tmp_path / "fails", "echo no such channel >&2; exit 3")),
            Hook(event="held", command=program(tmp_path / "hangs", "exec sleep 60")),
            Hook(event="held", command=str(tmp_path / "missing")),
            Hook(event="held", webhook="http://127.0.0.1:1/services/secret-token"),
        ],
        told.append,
        seconds=0.5,
    )
    hooks.tell(EVENT)
    hooks.wait()
    said = "\n".join(sorted(told))
    assert len(told) == 4, said
    assert "exit 3: no such channel" in said
    assert "TimeoutExpired" in said
    assert "FileNotFoundError" in said
    assert "secret-token" not in said


def test_a_web_address_gets_it_by_post(tmp_path: Path) -> None:
    bodies: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        told: list[str] = []
        hooks = Hooks([Hook(event="held", webhook=f"http://127.0.0.1:{server.server_port}/x")], told.append)
        hooks.tell(EVENT)
        hooks.wait()
        thread.join(10)
    assert (told, [one["said"] for one in bodies]) == ([], ["held: no figures"])
