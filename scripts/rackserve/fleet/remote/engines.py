"""Runs on a balancer: asks engines directly, over the way that requests take: their own page of figures, what they
serve, or a few prompts after one another. Standard library only."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FIGURES = ("vllm:num_requests_running", "vllm:num_requests_waiting")
LONGEST_PAGE = 8 << 20
# No proxy: a node may have one in its environment.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def figures(page: str) -> dict[str, float | None]:
    """Sums of the two gauges over an engine's cores; None for one that is not on the page."""
    found: dict[str, float | None] = dict.fromkeys(FIGURES)
    for line in page.splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in found:
            found[name] = (found[name] or 0) + float(line.rsplit(" ", 1)[1])
    return found


def look(url: str, seconds: float) -> dict[str, Any]:
    """`refused`: nobody listens there, so nothing runs there."""
    try:
        with OPENER.open(f"{url}/metrics", timeout=seconds) as reply:
            found = figures(reply.read(LONGEST_PAGE).decode(errors="replace"))
    except urllib.error.URLError as error:
        gone = isinstance(error.reason, ConnectionRefusedError)
        return {"running": None, "waiting": None, "refused": gone, "error": f"{url}/metrics: {error.reason}"}
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"running": None, "waiting": None, "refused": False, "error": f"{url}/metrics: {error}"}
    missing = [name for name, value in found.items() if value is None]
    return {
        "running": found[FIGURES[0]],
        "waiting": found[FIGURES[1]],
        "refused": False,
        "error": f"{url}/metrics has no {' and no '.join(missing)}" if missing else "",
    }


def one_prompt(asked: dict[str, Any], letters: int, tokens: int, seconds: float) -> dict[str, Any]:
    """A whole answer, timed."""
    text = ("The quick brown fox jumps over the lazy dog. " * (letters // 45 + 1))[:letters]
    # Drawn, as users' tokens are: the likeliest ones take another way through the engine.
    body = {"model": asked["model"], "prompt": text, "max_tokens": tokens, "temperature": 1}
    request = urllib.request.Request(
        f"{asked['url']}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {asked['key']}"},
    )
    began = time.monotonic()
    try:
        with OPENER.open(request, timeout=seconds) as reply:
            made = int(json.loads(reply.read())["usage"]["completion_tokens"])
    except urllib.error.HTTPError as error:
        return {"error": f"HTTP {error.code}: {error.read(300).decode(errors='replace')}"}
    except urllib.error.URLError as error:
        return {"error": str(error.reason)}
    except (OSError, http.client.HTTPException) as error:
        return {"error": str(error) or type(error).__name__}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"an answer that is none: {type(error).__name__} {error}"}
    return {"seconds": time.monotonic() - began, "tokens": made, "error": ""}


def talk(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One prompt after the other; the first failure or the end of the time ends it."""
    ends, told = time.monotonic() + asked["seconds"], []
    for letters, tokens in asked["prompts"]:
        left = ends - time.monotonic()
        if left <= 0:
            break
        told.append(one_prompt(asked, letters, tokens, left))
        if told[-1]["error"]:
            break
    return told


def fetched(asked: dict[str, Any], path: str) -> Any:
    headers = {"Authorization": f"Bearer {asked['key']}"}
    with OPENER.open(urllib.request.Request(f"{asked['url']}{path}", None, headers), timeout=asked["seconds"]) as reply:
        return json.loads(reply.read(LONGEST_PAGE))


def names(asked: dict[str, Any]) -> dict[str, Any]:
    """Which models it serves, where their files lie, and which version it is; what it does not say is empty."""
    try:
        models = {str(one["id"]): str(one.get("root") or "") for one in fetched(asked, "/v1/models")["data"]}
    except urllib.error.HTTPError as error:
        return {"models": {}, "version": "", "error": f"HTTP {error.code}"}
    except (OSError, http.client.HTTPException) as error:
        return {"models": {}, "version": "", "error": str(getattr(error, "reason", error))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"models": {}, "version": "", "error": f"an answer that is none: {type(error).__name__} {error}"}
    try:
        version = str(fetched(asked, "/version")["version"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        version = ""
    return {"models": models, "version": version, "error": ""}


def answer(asked: dict[str, Any]) -> None:
    act = {"look": lambda one: look(one["url"], one["seconds"]), "talk": talk, "names": names}[asked["action"]]
    with ThreadPoolExecutor(max_workers=16) as pool:
        said = dict(zip(asked["engines"], pool.map(act, asked["engines"].values()), strict=True))
    print(json.dumps(said))
