"""Answers /healthz as a balancer does; the file /run/molecule-status says with which status (default 200)."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = Path("/run/molecule-status")
        self.send_response(int(said.read_text()) if said.exists() else 200)
        self.send_header("content-length", "0")
        self.end_headers()


ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
