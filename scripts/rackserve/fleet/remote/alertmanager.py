"""Runs on a monitor: makes, finds and ends silences of its Alertmanager over loopback. Standard library only."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(base: str, seconds: float, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{base}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with OPENER.open(request, timeout=seconds) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"Alertmanager refuses {method} {path}: HTTP {error.code} {error.read(300).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"Alertmanager at {base}: {getattr(error, 'reason', error)}")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        sys.exit(f"Alertmanager at {base} answers no JSON: {text[:200].decode(errors='replace')}")


def answer(asked: dict[str, Any]) -> None:
    base, seconds = f"http://127.0.0.1:{asked['port']}/api/v2", asked["seconds"]
    mine = [
        one["id"]
        for one in call(base, seconds, "GET", "/silences") or []
        if one["status"]["state"] != "expired" and one["comment"].startswith(asked["mark"])
    ]
    # New ones first: there is no moment without.
    made = [call(base, seconds, "POST", "/silences", one)["silenceID"] for one in asked["silences"]]
    for name in mine:
        call(base, seconds, "DELETE", f"/silence/{urllib.parse.quote(name)}")
    print(json.dumps({"made": made, "ended": mine}))
