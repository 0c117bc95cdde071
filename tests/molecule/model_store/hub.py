"""A hub that speaks enough of the Hugging Face protocol for its real client.

hub.py PORT FOLDER REPOSITORY COMMIT TOKEN LOG serves one model in one revision to whoever has the token, and writes a
line per request, so that a test can count who asked.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PORT, FOLDER, REPOSITORY, COMMIT, TOKEN, LOG = sys.argv[1:7]


def entry(path):
    content = path.read_bytes()
    described = {"rfilename": path.name, "size": len(content)}
    # As on the real hub: big files are known by SHA-256, small ones by their git hash.
    described["blobId"] = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    if path.suffix == ".safetensors":
        described["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return described


def leaf(described):
    """The same as a listing of the tree tells it."""
    found = {"type": "file", "path": described["rfilename"], "size": described["size"], "oid": described["blobId"]}
    if "lfs" in described:
        found["lfs"] = {"oid": described["lfs"]["sha256"], "size": described["size"], "pointerSize": 130}
    return found


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def error(self, status, code):
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def do_GET(self):
        path = urlsplit(self.path).path
        with Path(LOG).open("a") as log:
            log.write(f"{self.command} {path}\n")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.error(401, "RepoNotFound")
        prefix = f"/api/models/{REPOSITORY}/revision/"
        if path.startswith(prefix):
            if path.removeprefix(prefix) not in (COMMIT, "main"):
                return self.error(404, "RevisionNotFound")
            files = [entry(file) for file in sorted(Path(FOLDER).iterdir())]
            info = {
                "id": REPOSITORY,
                "modelId": REPOSITORY,
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "siblings": files,
            }
            return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        if path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            tree = [leaf(entry(file)) for file in sorted(Path(FOLDER).iterdir())]
            return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        prefix = f"/{REPOSITORY}/resolve/{COMMIT}/"
        file = Path(FOLDER) / path.removeprefix(prefix)
        if not path.startswith(prefix) or not file.is_file():
            return self.error(404, "EntryNotFound")
        described = entry(file)
        etag = described.get("lfs", {}).get("sha256") or described["blobId"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Type": "application/octet-stream"}
        return self.answer(200, file.read_bytes(), headers)

    do_HEAD = do_GET

    def log_message(self, *words):
        pass


Path(LOG).touch()
ThreadingHTTPServer(("127.0.0.1", int(PORT)), Hub).serve_forever()
