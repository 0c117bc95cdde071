"""What an operator does on the running lab: asks, and looks what became of it."""

import json
import subprocess
import time
from typing import Any

import openai
from conftest import REPOSITORY, Service


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(REPOSITORY / "scripts" / name), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def story(request_id: str) -> dict[str, Any]:
    """Once its line has come: HAProxy writes it after the client has its answer, and the engine's may be there first."""
    ends = time.monotonic() + 20
    while True:
        done = script("logs", request_id, "--since", "1h", "--json")
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"entries": []}
        ended = any("HAProxy's word for it" in entry["detail"] for entry in found["entries"])
        if ended or time.monotonic() > ends:
            assert ended, (done.stderr, found)
            return found
        time.sleep(0.5)


def words(found: dict[str, Any]) -> list[str]:
    return [entry["what"] for entry in found["entries"] if entry["node"].startswith("lb")]


def client(service: Service, balancer: str = "lb1") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.urls[balancer]}/v1", api_key=service.key, max_retries=0, timeout=60)


def stream(service: Service, tokens: int = 16) -> Any:
    return client(service).chat.completions.with_raw_response.create(
        model="small",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=tokens,
        stream=True,
        extra_body={"ignore_eos": True},
    )
