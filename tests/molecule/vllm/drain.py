"""Stops the engine under a running stream: the stream must end complete, and no process may stay."""

import http.client
import json
import subprocess
import sys
from pathlib import Path

CGROUPS = [*Path("/sys/fs/cgroup").glob("**/vllm@mol.service/cgroup.procs")]
BODY = {"model": "mol", "prompt": "Hello", "max_tokens": 400, "ignore_eos": True, "stream": True}

connection = http.client.HTTPConnection("127.0.0.1", 8010, timeout=60)
headers = {"Authorization": f"Bearer {sys.argv[1]}", "Content-Type": "application/json"}
connection.request("POST", "/v1/completions", json.dumps(BODY), headers)
response = connection.getresponse()
processes = sorted({int(line) for file in CGROUPS for line in file.read_text().split()})
stop = None
ended = False
for raw in response:
    line = raw.decode().strip()
    if line.startswith("data: ") and stop is None:
        stop = subprocess.Popen(["systemctl", "stop", "vllm@mol.service"])
    ended = ended or line == "data: [DONE]"
print("stream complete" if ended and stop else "the stream was cut")
status = stop.wait(timeout=90) if stop else 1
left = [process for process in processes if Path(f"/proc/{process}").exists()]
print("no process left" if processes and status == 0 and not left else f"stop {status}, of {processes} left: {left}")
