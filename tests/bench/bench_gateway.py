"""The balancer against plain HAProxy and other gateways, side by side on one backend in one lab node.

Every figure is a median over interleaved repeats of short rounds; ratios are taken within one run. The two cores of the
node carry load, contender and backend alike, so read ratios, not absolute rates.
"""

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from measure import REPOSITORY, store
from peers import contenders as who
from peers.node import FOLDER, INVENTORY, Node

CHAT = "/v1/chat/completions"
BODIES = {"0.3 KB": 300, "2 KB": 2_000, "32 KB": 32_000, "256 KB": 256_000}
CONNECTIONS = (1, 32, 256)
SECONDS = 2
PARTIAL = REPOSITORY / "report" / "bench_gateway.json"


@dataclass(frozen=True)
class Round:
    """One short round of load on one contender."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    failed: int


def body(size: int, stream: bool, **more: Any) -> str:
    request = {"model": "bench", "max_tokens": 50, "messages": [{"role": "user", "content": ""}], **more}
    if stream:
        request["stream"] = True
    request["messages"][0]["content"] = "word " * max(1, (size - len(json.dumps(request))) // 5)
    return json.dumps(request, separators=(",", ":"))


def load(node: Node, contender: who.Contender, name: str, connections: int, rate: float | None = None) -> Round:
    """h2load for SECONDS; `rate`: requests per second in all, instead of as many as go through."""
    log = f"{FOLDER}/h2load.log"
    # A rate per connection must be a whole number for h2load.
    paced = f"--rps={max(1, round(rate / connections))}" if rate else ""
    before, _ = node.cost(contender.unit)
    text = node.run(
        f"rm -f {log}; h2load --h1 -t 1 -c {connections} -D {SECONDS} --warm-up-time=1 {paced} --log-file={log} "
        f"-d {FOLDER}/bodies/{name}.json -H 'content-type: application/json' -H 'authorization: Bearer {who.KEY}' "
        f"http://127.0.0.1:{contender.port}{CHAT} >{FOLDER}/h2load.out; cat {log}"
    )
    after, _ = node.cost(contender.unit)
    rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == 2]
    micros = sorted(int(duration) for _, status, duration in rows if status == "200")
    if not micros:
        # So slow that no request ended in time.
        return Round(0.0, math.inf, math.inf, math.inf, len(rows))
    first, last = (edge(int(start) for start, _, _ in rows) for edge in (min, max))
    return Round(
        per_second=len(micros) / max((last - first) / 1e6, 0.5),
        p50_ms=micros[len(micros) // 2] / 1000,
        p99_ms=micros[min(len(micros) - 1, int(len(micros) * 0.99))] / 1000,
        cpu_ms_per_request=(after - before) * 1000 / len(micros) * SECONDS / (SECONDS + 1),
        failed=len(rows) - len(micros),
    )


def prepare(node: Node, chosen: list[who.Contender]) -> None:
    node.run(
        "export DEBIAN_FRONTEND=noninteractive; dpkg -s haproxy nghttp2-client nginx-light libsndfile1 python3-venv >/dev/null 2>&1 || "
        "{ apt-get update -q && apt-get install -yq --no-install-recommends haproxy nghttp2-client nginx-light libsndfile1 python3-venv; }"
        "; systemctl disable --now haproxy nginx 2>/dev/null; true"
    )
    for contender in chosen:
        if package := who.PACKAGES.get(contender.name):
            venv = f"{FOLDER}/venv-{contender.name}"
            node.run(
                f"test -e {venv}/.done || {{ python3 -m venv {FOLDER}/uv && {FOLDER}/uv/bin/pip install -q uv && "
                f"{FOLDER}/uv/bin/uv venv -q --clear {venv} && VIRTUAL_ENV={venv} {FOLDER}/uv/bin/uv pip install -q "
                f"--system-certs '{package}' && touch {venv}/.done; }}"
            )
    for script in ("cost.py", "hold.py"):
        node.put(f"{FOLDER}/{script}", (Path(__file__).parent / "peers" / script).read_text())
    for (name, size), stream in itertools.product(BODIES.items(), (False, True)):
        node.put(f"{FOLDER}/bodies/{name.replace(' ', '')}{'-stream' if stream else ''}.json", body(size, stream))
    who.backend(node)
    probe = f"{FOLDER}/bodies/0.3KB.json"
    for contender in chosen:
        contender.start(node)
        url = f"http://127.0.0.1:{contender.port}{CHAT}"
        header = f"-H 'content-type: application/json' -H 'authorization: Bearer {who.KEY}'"
        node.wait(f"curl -sf -m 5 {header} -d @{probe} {url} | grep -q total_tokens", f"an answer of {contender.name}")


def summary(rounds: list[Round]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for key in ("per_second", "p50_ms", "p99_ms", "cpu_ms_per_request"):
        values = [getattr(one, key) for one in rounds]
        known = [value for value in values if math.isfinite(value)]
        figures[key] = round(statistics.median(values), 3) if len(known) == len(values) else None
        figures[f"{key}_spread"] = round(max(known) - min(known), 3) if known else None
    figures["failed"] = sum(one.failed for one in rounds)
    return figures


def cells(full: bool) -> list[tuple[str, int]]:
    """Bodies and connections: each size at 32 connections, each number of connections at 2 KB."""
    if not full:
        return [("2 KB", 32)]
    return [(size, 32) for size in BODIES] + [("2 KB", count) for count in CONNECTIONS if count != 32]


def grid(node: Node, chosen: list[who.Contender], arguments: argparse.Namespace) -> dict[str, Any]:
    """By kind, body and connections: each contender's figures, with its rate as a share of plain HAProxy's."""
    results: dict[str, Any] = {}
    for kind, (size, count) in itertools.product(("answer", "stream"), cells(arguments.full)):
        part = f"{kind}, {size}, {count} connections"
        if arguments.part not in (None, part):
            continue
        name = f"{size.replace(' ', '')}{'-stream' if kind == 'stream' else ''}"
        rounds: dict[str, list[Round]] = defaultdict(list)
        for _ in range(arguments.repeats):
            for contender in chosen:
                rounds[contender.name].append(load(node, contender, name, count))
        row = {who_: summary(all_rounds) for who_, all_rounds in rounds.items()}
        for figures in row.values():
            figures["share_of_haproxy"] = round(figures["per_second"] / row["haproxy"]["per_second"], 3)
        results[part] = row
        # What is known stays known if a later part fails.
        PARTIAL.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{part}:", {n: f["share_of_haproxy"] for n, f in row.items()}, file=sys.stderr)
    return results


def half_load(node: Node, chosen: list[who.Contender], repeats: int, full: dict[str, Any]) -> dict[str, Any]:
    """Added p99 over the backend asked directly at the same rate: half of what each contender carried itself."""
    direct = who.Contender("backend", who.BACKEND, lambda _: None)
    rounds: dict[str, list[tuple[Round, Round]]] = defaultdict(list)
    for _ in range(repeats):
        for contender in chosen:
            rate = full[contender.name]["per_second"] / 2
            pair = [load(node, one, "2KB", 32, rate=rate) for one in (direct, contender)]
            rounds[contender.name].append((pair[0], pair[1]))
    return {name: _added(pairs) for name, pairs in rounds.items()}


def _added(pairs: list[tuple[Round, Round]]) -> dict[str, float]:
    added = [own.p99_ms - direct.p99_ms for direct, own in pairs]
    return {
        "per_second": round(statistics.median(own.per_second for _, own in pairs), 1),
        "p99_ms": round(statistics.median(own.p99_ms for _, own in pairs), 3),
        "added_p99_ms": round(statistics.median(added), 3),
        "added_p99_ms_spread": round(max(added) - min(added), 3),
    }


def memory(node: Node, chosen: list[who.Contender]) -> dict[str, float]:
    """Resident MiB that 1000 open streams add, each stopped after its 50 events.

    LiteLLM is left out: it writes events of its own and keeps the last one back, so nobody sees when all are there.
    """
    node.put(f"{FOLDER}/bodies/hold.json", body(2_000, stream=True, hold=True))
    added = {}
    for contender in chosen:
        if contender.name == "litellm":
            continue
        contender.start(node)
        url = f"127.0.0.1 {contender.port} {CHAT} {who.KEY} {FOLDER}/bodies/hold.json 1000"
        node.wait(f"python3 {FOLDER}/hold.py {url.replace(' 1000', ' 1')} true", f"a stream of {contender.name}")
        _, before = node.cost(contender.unit)
        pid = f"$(systemctl show -P MainPID {contender.unit})"
        out = node.run(f"python3 {FOLDER}/hold.py {url} python3 {FOLDER}/cost.py {pid}")
        added[contender.name] = round((float(out.split()[-1]) - before) / 1024, 1)
    return added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: tests/bench/bench_gateway.py --full")
    parser.add_argument("--full", action="store_true", help="all sizes and connections (40 minutes); else 2 KB and 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--part", help="only this one of all sizes and connections: 'stream, 2 KB, 256 connections'")
    parser.add_argument("--grid-only", action="store_true", help="neither half load nor memory; prints, stores nothing")
    arguments = parser.parse_args()
    if arguments.part:
        arguments.full = arguments.grid_only = True
    PARTIAL.parent.mkdir(exist_ok=True)
    subprocess.run(["scripts/lab", "up", "-i", str(INVENTORY)], cwd=REPOSITORY, check=True)
    node = Node()
    chosen = [one for one in (who.PLAIN, *who.OURS, *who.PEERS) if one.name not in arguments.without]
    prepare(node, chosen)
    results = grid(node, chosen, arguments)
    if arguments.grid_only:
        print(json.dumps(results, indent=2))
        return
    full = results["answer, 2 KB, 32 connections"]
    store(
        "gateway",
        f"tests/bench/bench_gateway.py {' '.join(sys.argv[1:])}".strip(),
        {
            "grid": results,
            "half_load": half_load(node, chosen, arguments.repeats, full),
            "mib_per_1000_open_streams": memory(node, chosen),
        },
    )


if __name__ == "__main__":
    main()
