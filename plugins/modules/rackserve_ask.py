#!/usr/bin/python
"""Asks every pool of a balancer a real question. Standard library only: it may run on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_ask
short_description: Ask every pool a real question through a balancer
description:
  - Streams a short chat completion per pool until every engine of the pool has answered once, or the tries are used up.
  - Reads which engine answered from the C(x-rackserve-engine) header, which the balancer adds for this key only.
  - Changes nothing; the same in check mode.
options:
  url:
    description: The balancer, for example V(http://198.18.0.11:8080).
    type: str
    required: true
  key:
    description: The API key of the internal tenant.
    type: str
    required: true
  pools:
    description: The pools of the plan. Per name at least C(names) (served model names) and C(engines) (engine names).
    type: dict
    required: true
  taken_out:
    description: Engines that an operator has taken out, and the words for it. They are shown and not waited for.
    type: dict
    default: {}
  ca_file:
    description: Over https, the CA or chain (PEM) by which the balancer's certificate is trusted; default is the system's.
    type: path
  check_name:
    description: Whether the certificate has to hold the address asked. Not for a certificate made for a public name.
    type: bool
    default: true
  timeout_seconds:
    description: The longest wait for one answer.
    type: int
    default: 60
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Ask the pool small through this balancer
  rackserve_ask:
    url: http://198.18.0.11:8080
    key: "{{ service_probe_key }}"
    pools: "{{ service_plan.pools }}"
  delegate_to: localhost
"""

RETURN = r"""
answers:
  description: One entry per pool and engine.
  returned: always
  type: list
  elements: dict
  sample: [{pool: small, engine: small-gpu1, state: answers, ttft_seconds: 0.08, detail: ""}]
"""

import http.client  # noqa: E402
import json  # noqa: E402
import ssl  # noqa: E402
import time  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

# An idle pool hands out its engines in turn, so two rounds show each of them; more would only hide a sick one.
ROUNDS = 3


def trust(ca_file: str | None, check_name: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file:
        # A chain may end below its root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = check_name
    return context


def connect(url: str, timeout_seconds: int, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.hostname is None:
        raise ValueError(f"url {url!r} has no host")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_seconds, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_seconds)


def ask(
    url: str, key: str, model: str, timeout_seconds: int, context: ssl.SSLContext | None = None
) -> dict[str, object]:
    """One streamed completion. Time to first token is the first data event with content, in seconds from sending."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Are you there?"}],
            "max_tokens": 4,
            "stream": True,
        }
    )
    connection = connect(url, timeout_seconds, context)
    begin = time.monotonic()
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            body,
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        response = connection.getresponse()
        engine = response.getheader("x-rackserve-engine", "")
        if response.status != 200:
            text = response.read(600).decode("utf-8", "replace")
            return {"engine": engine, "state": f"HTTP {response.status}", "ttft_seconds": None, "detail": text}
        first: float | None = None
        ended = False
        for raw in response:
            line = raw.decode("utf-8", "replace").strip()
            if line == "data: [DONE]":
                ended = True
                break
            if line.startswith("data: ") and '"choices":[{' in line.replace(" ", "") and first is None:
                first = time.monotonic() - begin
        if first is None or not ended:
            return {"engine": engine, "state": "cut", "ttft_seconds": first, "detail": "the stream ended before [DONE]"}
        return {"engine": engine, "state": "answers", "ttft_seconds": round(first, 3), "detail": ""}
    except (OSError, http.client.HTTPException) as error:
        return {"engine": "", "state": "unreachable", "ttft_seconds": None, "detail": f"{url}: {error}"}
    finally:
        connection.close()


def ask_pool(
    url: str,
    key: str,
    pool_name: str,
    pool: dict[str, list[str]],
    timeout_seconds: int,
    context: ssl.SSLContext | None = None,
    taken_out: dict[str, str] | None = None,
) -> list[dict[str, object]]:
    out = {name: words for name, words in (taken_out or {}).items() if name in pool["engines"]}
    wanted = [name for name in pool["engines"] if name not in out]
    seen: dict[str, dict[str, object]] = {}
    last: dict[str, object] = {}
    for _ in range(ROUNDS * len(wanted)):
        last = ask(url, key, pool["names"][0], timeout_seconds, context)
        if last["state"] == "answers":
            seen.setdefault(str(last["engine"]), last)
        if all(name in seen for name in wanted):
            break
        if last["state"] == "unreachable":
            break
    silent = {
        "state": last.get("state") if not seen else "not seen",
        "ttft_seconds": None,
        "detail": last.get("detail", ""),
    }
    drained = {name: {"state": "drained", "ttft_seconds": None, "detail": words} for name, words in out.items()}
    return [
        {"pool": pool_name, **silent, **seen.get(name, {}), **drained.get(name, {}), "engine": name}
        for name in pool["engines"]
    ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "pools": {"type": "dict", "required": True},
            "taken_out": {"type": "dict", "default": {}},
            "ca_file": {"type": "path"},
            "check_name": {"type": "bool", "default": True},
            "timeout_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    p = module.params
    answers: list[dict[str, object]] = []
    try:
        context = trust(p["ca_file"], p["check_name"]) if p["url"].startswith("https:") else None
    except OSError as error:
        module.fail_json(msg=f"{p['ca_file']}: {error}. It is read on the machine that asks.")
    for name, pool in p["pools"].items():
        answers.extend(ask_pool(p["url"], p["key"], name, pool, p["timeout_seconds"], context, p["taken_out"]))
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
