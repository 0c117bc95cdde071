"""Runs on a balancer: the lines of its log service's page that are about one pool. Standard library only."""

import json
import sys
import urllib.request
from typing import Any

LONGEST_PAGE = 64 << 20
PROCESS = "process_start_time_seconds "


def answer(asked: dict[str, Any]) -> None:
    # No proxy: a node may have one in its environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked["url"], timeout=asked["seconds"]) as reply:
            page = reply.read(LONGEST_PAGE).decode(errors="replace")
    except (OSError, ValueError) as error:
        sys.exit(f"{asked['url']}: {getattr(error, 'reason', error)}")
    names, pool = tuple(f"{name}{{" for name in asked["names"]), f'pool="{asked["pool"]}"'
    lines = [
        line for line in page.splitlines() if line.startswith(PROCESS) or (line.startswith(names) and pool in line)
    ]
    print(json.dumps({"page": "\n".join(lines)}))
