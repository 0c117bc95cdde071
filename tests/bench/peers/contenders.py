"""Who is measured: each listens on a port of the bench node and passes everything on to the one backend there."""

import hashlib
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from peers.node import FOLDER, Node

REPOSITORY = Path(__file__).resolve().parents[3]
KEY = "sk-bench-0001"
BACKEND, SSE, DIRECT = 9000, 9001, "direct"
# Written by the backend into every answer that is not a stream.
ANSWER = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"ok"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":17,"completion_tokens":50,"total_tokens":67}}'
)
_PYTHON = f"{FOLDER}/venv"


@dataclass(frozen=True)
class Contender:
    name: str
    port: int
    start: Callable[[Node], None]

    @property
    def unit(self) -> str:
        return f"bench-{self.name}"


def backend(node: Node) -> None:
    """HAProxy that answers by itself, and a small server for streams behind it: cheap, and the same for everyone."""
    node.put(
        f"{FOLDER}/backend.cfg",
        f"""
global
    nbthread 1
    tune.bufsize 1200000
    maxconn 4000
defaults
    mode http
    timeout client 120s
    timeout server 120s
    timeout connect 5s
    timeout http-keep-alive 300s
frontend backend
    bind 127.0.0.1:{BACKEND} backlog 4096
    http-request wait-for-body time 10s if METH_POST
    acl streamed req.body -m sub '"stream":true'
    http-request return status 200 content-type application/json string '{ANSWER}' unless streamed
    default_backend sse
backend sse
    option http-no-delay
    server sse 127.0.0.1:{SSE}
""",
    )
    node.put(f"{FOLDER}/sse.py", (Path(__file__).parent / "sse.py").read_text())
    node.start("bench-sse", f"python3 {FOLDER}/sse.py {SSE}")
    node.start("bench-backend", f"haproxy -W -f {FOLDER}/backend.cfg")


def plain_haproxy(node: Node, name: str = "haproxy", port: int = 9010, log: str = "") -> None:
    node.put(
        f"{FOLDER}/{name}.cfg",
        f"""
global
    maxconn 8000
    {log and "log stdout format raw local0 info"}
defaults
    mode http
    {log}
    option http-no-delay
    timeout client 120s
    timeout server 120s
    timeout connect 5s
frontend plain
    bind 127.0.0.1:{port} backlog 4096
    default_backend engines
backend engines
    balance leastconn
    server one 127.0.0.1:{BACKEND}
""",
    )
    node.start(f"bench-{name}", f"haproxy -W -f {FOLDER}/{name}.cfg")


def logging_haproxy(node: Node) -> None:
    """Plain, with HAProxy's own request log into the journal, where ours goes too: what the log alone costs."""
    plain_haproxy(node, "haproxy-with-log", 9015, "log global\n    option httplog")


def definition(tenants: int, limits: dict[str, Any]) -> dict[str, Any]:
    def tenant(number: int) -> dict[str, Any]:
        key = KEY if number == 0 else f"sk-bench-other-{number}"
        sha256 = hashlib.sha256(key.encode()).hexdigest()
        return {
            "lane": "interactive",
            "pools": ["bench"],
            "keys": [{"id": "k", "sha256": sha256, "limits": limits}],
            "limits": limits,
        }

    return {
        "service_name": "bench",
        "service_stage": "dev",
        "service_engine_key": "engine-key-of-the-bench",
        "service_models": {
            "bench": {"source": {"kind": "node", "path": "/srv/m"}, "revision": "1", "context_tokens": 1_000_000}
        },
        "service_releases": {"bench-1": {"version": "1.0", "lock": "l", "model": "bench"}},
        "service_pools": {
            "bench": {
                "release": "bench-1",
                "names": ["bench"],
                "device": "cpu",
                "slots": 4000,
                "queue": {"max_requests": 4000, "timeout_seconds": 20},
                "engines": [{"name": "one", "node": "bench1", "port": BACKEND}],
            }
        },
        "service_lanes": {"interactive": {"priority": 10}},
        "service_tenants": {f"t{number}": tenant(number) for number in range(tenants)},
    }


def ours(unit: str, port: int, tenants: int, limits: dict[str, Any]) -> Callable[[Node], None]:
    """The configuration that site.yml would write, from a definition of its own."""

    def start(node: Node) -> None:
        with tempfile.TemporaryDirectory() as folder:
            inventory, out = Path(folder) / "inventory", Path(folder) / "out"
            (inventory / "group_vars" / "all").mkdir(parents=True)
            host = {
                "ansible_host": "127.0.0.1",
                "haproxy_runtime_directory": f"/run/{unit}",
                "haproxy_state_directory": f"/var/lib/{unit}",
                # The backend keeps idle connections, as our engines do for two minutes.
                "haproxy_reuse_engine_connections": True,
                # Each contender that writes a log writes it to the journal.
                "haproxy_request_log": "stdout",
            }
            groups = {name: {"hosts": {"bench1": {}}} for name in ("balancers", "gpu_nodes")}
            hosts = {"all": {"hosts": {"bench1": host}, "children": groups}}
            (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
            service = definition(tenants, limits)
            ports = {name: port + 1 + at for at, name in enumerate(_ports())}
            service["service_ports"] = {**ports, "api": port}
            (inventory / "group_vars" / "all" / "service.yml").write_text(yaml.safe_dump(service))
            command = ["scripts/render", "haproxy", "-i", str(inventory), "--with-secrets", "--output", str(out)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            archive = subprocess.run(["tar", "-c", "-C", str(out), "."], capture_output=True, check=True).stdout
        node.run(
            f"rm -rf {FOLDER}/{unit}; mkdir -p {FOLDER}/{unit} /run/{unit} /var/lib/{unit}; tar -x -C {FOLDER}/{unit}",
            archive,
        )
        node.start(unit, f"haproxy -W -f {FOLDER}/{unit}/haproxy.cfg", f"--setenv=RACKSERVE_DIRECTORY={FOLDER}/{unit}")

    return start


def _ports() -> list[str]:
    """Names of service_ports but the first one, whichever there are."""
    from rackserve.definition.models.service import Ports

    return [name for name in Ports.model_fields if name != "api"]


def nginx(node: Node) -> None:
    node.put(
        f"{FOLDER}/nginx.conf",
        f"""
worker_processes auto;
pid /run/bench-nginx.pid;
error_log stderr crit;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_max_body_size 2m;
    client_body_buffer_size 2m;
    keepalive_requests 1000000;
    upstream engines {{ least_conn; server 127.0.0.1:{BACKEND}; keepalive 512; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:9040 backlog=4096;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
""",
    )
    node.start("bench-nginx", f"nginx -g 'daemon off;' -c {FOLDER}/nginx.conf")


def vllm_router(node: Node) -> None:
    command = f"{_PYTHON}-vllm-router/bin/vllm-router --host 127.0.0.1 --port 9050 --prometheus-port 9051"
    node.start("bench-vllm-router", f"{command} --worker-urls http://127.0.0.1:{BACKEND} --policy round_robin")


def sglang_router(node: Node) -> None:
    command = f"{_PYTHON}-sglang-router/bin/python -m sglang_router.launch_router --host 127.0.0.1 --port 9060 --prometheus-port 9061"
    node.start("bench-sglang-router", f"{command} --worker-urls http://127.0.0.1:{BACKEND} --policy round_robin")


def litellm(node: Node) -> None:
    model = {
        "model_name": "bench",
        "litellm_params": {"model": "openai/bench", "api_base": f"http://127.0.0.1:{BACKEND}/v1", "api_key": "none"},
    }
    node.put(f"{FOLDER}/litellm.yaml", yaml.safe_dump({"model_list": [model], "general_settings": {"master_key": KEY}}))
    command = f"{_PYTHON}-litellm/bin/litellm --host 127.0.0.1 --port 9070 --num_workers 2"
    node.start("bench-litellm", f"{command} --config {FOLDER}/litellm.yaml")


# Declared but never reached: what is measured is the cost of watching.
LIMITS = {
    "requests_per_minute": 900_000_000,
    "tokens_per_minute": 900_000_000,
    "concurrent_requests": 100_000,
    "parallel_streams": 100_000,
    "max_tokens": 100_000,
    "messages": 10_000,
    "prompt_tokens": 1_000_000,
    "parallel_generations": 16,
}
OURS = (
    Contender("ours-no-limits", 9100, ours("bench-ours-no-limits", 9100, 10, {})),
    Contender("ours-full", 9120, ours("bench-ours-full", 9120, 10, LIMITS)),
    Contender("ours-10000-tenants", 9140, ours("bench-ours-10000-tenants", 9140, 10_000, LIMITS)),
)
PEERS = (
    Contender("haproxy-with-log", 9015, logging_haproxy),
    Contender("nginx", 9040, nginx),
    Contender("vllm-router", 9050, vllm_router),
    Contender("sglang-router", 9060, sglang_router),
    Contender("litellm", 9070, litellm),
)
PLAIN = Contender("haproxy", 9010, plain_haproxy)
# Package to install by uv in an environment of its own, by contender.
PACKAGES = {
    "vllm-router": "vllm-router==0.1.17",
    "sglang-router": "sglang-router==0.3.2",
    "litellm": "litellm[proxy]",
}
