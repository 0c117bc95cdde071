"""Keeps every call and mail it gets, one JSON line each, in /run/molecule-alerts.jsonl; stands in for all who are told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer


def keep(path: str, body: object) -> None:
    with Path("/run/molecule-alerts.jsonl").open("a") as file:
        file.write(json.dumps({"path": path, "body": body}) + "\n")


class Call(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        keep(self.path, json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


class Mail(StreamRequestHandler):
    """As much of SMTP as taking a mail needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 molecule\r\n")
        recipient = ""
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
            if verb == "DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b"".join(iter(self.rfile.readline, b".\r\n")).decode()
                keep(f"mailto:{recipient}", text)
            self.wfile.write(b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n")
            if verb == "QUIT":
                return


ThreadingTCPServer.allow_reuse_address = True
threading.Thread(target=ThreadingTCPServer(("127.0.0.1", 9025), Mail).serve_forever, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", 9099), Call).serve_forever()
