"""Runs on a monitor: asks its Prometheus many things over loopback, one after the other. Standard library only."""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class Gone(Exception):
    """Nobody there, or not in time: asking on would only take longer."""


def ask(opener: urllib.request.OpenerDirector, address: str, ends: float) -> Any:
    """What Prometheus put under `data`. ValueError: it understood and refused, or answered something else."""
    left = ends - time.monotonic()
    if left <= 0:
        raise Gone("no time left")
    try:
        with opener.open(address, timeout=left) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    except OSError as error:
        raise Gone(str(getattr(error, "reason", error))) from error
    try:
        found = json.loads(text)
        done, said = found["status"] == "success", found.get("data", found.get("error"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no answer of Prometheus: {text[:200].decode(errors='replace')}") from error
    if not done:
        raise ValueError(str(said))
    return said


def answer(asked: dict[str, Any]) -> None:
    base = f"http://127.0.0.1:{asked['port']}/api/v1/"
    ends = time.monotonic() + asked["seconds"]
    # No proxy: a node may have one in its environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    wanted = {name: f"query?{urllib.parse.urlencode(given)}" for name, given in asked["queries"].items()}
    wanted |= {name: f"query_range?{urllib.parse.urlencode(given)}" for name, given in asked["ranges"].items()}
    results, refused = {}, {}
    try:
        for name, path in wanted.items():
            try:
                results[name] = ask(opener, base + path, ends)["result"]
            except (ValueError, KeyError, TypeError) as error:
                refused[name] = str(error)
        alerts = ask(opener, f"{base}alerts", ends)["alerts"] if asked["alerts"] else []
    except (Gone, ValueError, KeyError, TypeError) as error:
        sys.exit(f"Prometheus at 127.0.0.1:{asked['port']}: {error}")
    print(json.dumps({"now": time.time(), "results": results, "refused": refused, "alerts": alerts}))
