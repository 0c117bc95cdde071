"""What site.yml's last questions make of engines that are out on purpose."""

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins/modules"
STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state
3 engines 1 e1 192.0.2.1 2 0
3 engines 2 e2 192.0.2.2 0 8
3 engines 3 e3 192.0.2.3 2 1
3 engines 4 e4 192.0.2.4 2 32
"""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_engines_that_operators_took_out_are_told_with_their_record(tmp_path: Path) -> None:
    module = load("rackserve_taken_out")
    assert module.taken_out(STATE) == {"e2": "drained", "e3": "in maintenance"}
    record = tmp_path / "e2.json"
    record.write_text(json.dumps({"by": "ann@desk", "since": 0, "reason": "new driver"}))
    assert module.told("drained", record) == "drained by ann@desk since 1970-01-01 00:00:00 UTC: new driver"
    record.write_text("{")
    assert module.told("drained", record) == "drained by an operator"
    with pytest.raises(ValueError, match="unexpected answer"):
        module.taken_out("Unknown command\n")


@pytest.fixture
def service() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the requests that came: e1 answers them all."""
    asked: list[str] = []

    class Request(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.send_header("x-rackserve-engine", "e1")
            self.end_headers()
            self.wfile.write(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n')

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Request)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_they_are_shown_and_not_waited_for(service: tuple[str, list[str]]) -> None:
    module = load("rackserve_ask")
    url, asked = service
    pool = {"names": ["small"], "engines": ["e1", "e2"]}
    out = {"e2": "drained by ann@desk", "other": "drained"}
    found = module.ask_pool(url, "key", "small", pool, 5, None, out)
    assert [(one["engine"], one["state"], one["detail"]) for one in found] == [
        ("e1", "answers", ""),
        ("e2", "drained", "drained by ann@desk"),
    ]
    assert len(asked) == 1
    whole = module.ask_pool(url, "key", "small", pool, 5, None, {"e1": "drained", "e2": "drained"})
    assert [one["state"] for one in whole] == ["drained", "drained"]
    assert len(asked) == 1, "a pool that is out as a whole is not asked"
    silent = module.ask_pool(url, "key", "small", pool, 5, None, {})
    assert [one["state"] for one in silent] == ["answers", "not seen"]
