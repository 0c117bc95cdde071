#!/usr/bin/python
"""Proves on the live pages of engines that thresholds lie on edges of their histograms. Standard library only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rackserve_buckets
short_description: Prove that the thresholds of SLOs are edges of the engines' histograms
description:
  - Reads the page of metrics of each engine of this node and looks for a bucket at every threshold. A threshold beside the
    edges would be judged by a guess, or by nothing.
  - Changes nothing; the same in check mode.
options:
  engines:
    description: Engines of this node, each with C(name), C(port) and C(slo_edges) (histogram to its thresholds in seconds).
    type: list
    elements: dict
    required: true
  timeout_seconds:
    description: The longest wait for one page.
    type: int
    default: 30
author:
  - rackserve maintainers
"""

EXAMPLES = r"""
- name: Prove that the SLOs' thresholds are edges
  rackserve_buckets:
    engines: "{{ service_plan.engines | selectattr('node', 'equalto', inventory_hostname) | list }}"
"""

RETURN = r"""
proven:
  description: How many thresholds lie on an edge.
  returned: always
  type: int
"""

import re  # noqa: E402
import urllib.request  # noqa: E402
from typing import Any  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

LABEL = r'\w+="(?:[^"\\\n]|\\.)*",'
BUCKET = re.compile(rf'^([a-zA-Z_:][\w:]*)_bucket\{{(?:{LABEL})*?le="([^"]+)"', re.MULTILINE)


def edges_of(page: str) -> dict[str, set[float]]:
    """By histogram, the upper edges in seconds that the page has."""
    found: dict[str, set[float]] = {}
    for name, edge in BUCKET.findall(page):
        found.setdefault(name, set()).add(float(edge))
    return found


def problems(engine: str, wanted: dict[str, list[float]], page: str) -> list[str]:
    found = edges_of(page)
    told = []
    for metric, thresholds in wanted.items():
        has = found.get(metric, set())
        for threshold in thresholds:
            if float(threshold) not in has:
                shown = ", ".join(f"{edge:g}" for edge in sorted(has)) or "no such histogram"
                told.append(f"{engine}: {metric} has no edge at {threshold:g} s; it has: {shown}")
    return told


def page_of(port: int, timeout_seconds: int) -> str:
    """Raises OSError."""
    # No proxy: a node may have one in its environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=timeout_seconds) as answer:
        text: str = answer.read().decode("utf-8", "replace")
    return text


def look(engines: list[dict[str, Any]], timeout_seconds: int) -> tuple[int, list[str]]:
    """How many thresholds were proven, and what is wrong."""
    wanted, told = 0, []
    for engine in engines:
        edges = engine.get("slo_edges") or {}
        if not edges:
            continue
        wanted += sum(len(thresholds) for thresholds in edges.values())
        try:
            told += problems(engine["name"], edges, page_of(engine["port"], timeout_seconds))
        except OSError as error:
            told += [f"{engine['name']}: its page of metrics at port {engine['port']} cannot be read: {error}"]
    return wanted - len(told), told


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "engines": {"type": "list", "elements": "dict", "required": True},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    proven, told = look(module.params["engines"], module.params["timeout_seconds"])
    if told:
        remedy = "Run site.yml for this node again, so that its engines start with the edges of service_slos."
        module.fail_json(msg="\n".join([*told, remedy]), proven=proven)
    module.exit_json(changed=False, proven=proven)


if __name__ == "__main__":
    main()
