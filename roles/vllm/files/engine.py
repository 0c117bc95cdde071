#!/usr/bin/python3
"""Starts one engine for systemd, waits until it really answers, and says why it does not.

  engine free NAME   nothing is left of an earlier start, and nobody else has its port or GPUs (ExecStartPre)
  engine run NAME    becomes vLLM with what engines/NAME/current and engines/NAME/engine.json say (ExecStart)
  engine wait NAME   returns when a generated token came back with the key, and none without it (ExecStartPost)
  engine why NAME    the most telling lines of the last start, first the cause (ExecStopPost; run it by hand too)

Standard library only: it runs with the node's own Python, also where the engine's environment is broken.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FREE_SECONDS = 20
PREFIX = re.compile(r"^(\([\w:. -]*pid=\d+\) )?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]+\] ?)?")
# The first exception is the cause; these only report that somewhere else something failed.
ECHO = re.compile(
    r"See (root cause|stack trace)|EngineDeadError|EngineCore encountered"
    r"|WorkerProc initialization failed|Engine core initialization failed"
)
CAUSE = re.compile(
    r"^([\w.]*(Error|Exception|OutOfMemory\w*|KeyboardInterrupt)\b.*"
    r"|.*: error: .*|\s*Value error, .*|.*Killed process.*)$"
)


def load(engine):
    folder = ROOT / "engines" / engine
    settings_text = (folder / "engine.json").read_text()
    release = json.loads((folder / "current" / "release.json").read_text())
    return json.loads(settings_text), release, hashlib.sha256(settings_text.encode()).hexdigest()


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def owner(pid):
    """A process as an operator knows it: number, command and systemd unit. None when it is gone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        units = re.findall(r"([^/\s]+\.(?:service|scope))", Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return None
    return {"pid": int(pid), "command": command[:120], "unit": units[-1] if units else "no unit"}


def in_the_way(engine, settings):
    """Who listens on its port, and who is on its GPUs without being another engine. Sharing a GPU is for engines to declare."""
    found = [("port", settings["port"], pid) for pid in listeners(settings["port"])]
    gpus = settings["environment"].get("CUDA_VISIBLE_DEVICES", "")
    if gpus and shutil.which("nvidia-smi"):
        query = ["--query-compute-apps=pid", "--format=csv,noheader"]
        found += [("GPU", gpus, pid) for pid in said("nvidia-smi", "-i", gpus, *query).split() if pid.isdigit()]
    told = [(kind, which, owner(pid)) for kind, which, pid in found]
    others = re.compile(rf"vllm@(?!{re.escape(engine)}\.service$)")
    return [
        (kind, which, who) for kind, which, who in told if who and not (kind == "GPU" and others.match(who["unit"]))
    ]


def listeners(port):
    return sorted(set(re.findall(r"pid=(\d+)", said("ss", "-Hltnp", f"sport = :{port}"))))


def free(engine):
    """The kernel takes a moment to give back the memory of a GPU, so a process that is on its way out is waited for."""
    settings = json.loads((ROOT / "engines" / engine / "engine.json").read_text())
    end = time.monotonic() + FREE_SECONDS
    while (found := in_the_way(engine, settings)) and time.monotonic() < end:
        time.sleep(0.5)
    if found:
        kind, which, who = found[0]
        sys.exit(
            f"engine {engine}: its {kind} {which} is taken by process {who['pid']} ({who['command']}) of {who['unit']}; "
            f"stop that one, then: systemctl reset-failed vllm@{engine} && systemctl start vllm@{engine}"
        )


def model_stamp(path):
    """Names, sizes and times of the model's files: says whether the files changed since this start."""
    found = hashlib.sha256()
    for file in sorted(Path(path).rglob("*")):
        if file.is_file():
            status = file.stat()
            found.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def run(engine):
    settings, release, settings_digest = load(engine)
    started = {
        "release": release["release"],
        "digest": release["digest"],
        "engine": settings_digest,
        "settings": os.environ.get("RACKSERVE_SETTINGS", ""),
        "model": model_stamp(release["model_path"]),
    }
    Path(f"/run/rackserve/{engine}/started.json").write_text(json.dumps(started) + "\n")
    command = [*release["command"], *settings["arguments"]]
    environment = {**os.environ, **settings["common_environment"], **release["environment"], **settings["environment"]}
    # The release's own directory first: tools that vLLM starts (compilers, helpers) come from its environment.
    environment["PATH"] = f"{release['environment_path']}/bin:{os.environ.get('PATH', '/usr/bin:/bin')}"
    print(f"engine {engine}: release {release['release']}, {' '.join(command)}", flush=True)
    os.execve(command[0], command, environment)


def ask(settings, key, timeout_seconds):
    """(status, body) of a completion of one token, or (None, reason) while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", settings["port"], timeout=timeout_seconds)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    # Drawn, as users' tokens are: the likeliest one takes another way through the engine, and this one may need more of the node.
    body = json.dumps({"model": settings["served_names"][0], "prompt": "Hello", "max_tokens": 1, "temperature": 1})
    try:
        connection.request("POST", "/v1/completions", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def generated(body):
    try:
        return json.loads(body)["usage"]["completion_tokens"] >= 1
    except (ValueError, KeyError, TypeError):
        return False


def wait(engine):
    settings, release, _ = load(engine)
    main = int(os.environ["MAINPID"])
    key = os.environ["VLLM_API_KEY"]
    begin = time.monotonic()
    end = begin + settings["start_timeout_seconds"]
    status, said = None, "nothing listened on its port"
    while time.monotonic() < end:
        if not Path(f"/proc/{main}").exists():
            sys.exit(f"engine {engine}: vLLM ended before it answered")
        status, said = ask(settings, key, max(1.0, end - time.monotonic()))
        if status == 200 and generated(said):
            break
        # Retrying would not change this answer, and a 500 while vLLM dies is followed by its end.
        if status is not None and 400 <= status < 500:
            sys.exit(f"engine {engine}: it listens, but a completion of one token got HTTP {status}: {said[:300]}")
        time.sleep(0.25)
    else:
        sys.exit(
            f"engine {engine}: no token within {settings['start_timeout_seconds']} s "
            f"(last: {status or ''} {said[:200]})"
        )
    status, said = ask(settings, None, 30)
    if status != 401:
        sys.exit(f"engine {engine}: it answers HTTP {status} without a key, so it must not serve")
    print(f"engine {engine}: release {release['release']} answered after {time.monotonic() - begin:.1f} s", flush=True)


def last_start(engine):
    """The lines of the newest start. systemd gives each start an identity of its own."""
    unit = f"vllm@{engine}.service"
    show = subprocess.run(
        ["systemctl", "show", "-P", "InvocationID", unit], capture_output=True, text=True, check=False
    )
    invocation = show.stdout.strip()
    newest = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else ["-u", unit]
    command = ["journalctl", "--quiet", "--no-pager", "-o", "cat", "-n", "3000", *newest]
    # The kernel's word on memory comes from another writer and carries no identity.
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    systemd = subprocess.run(
        ["journalctl", "--quiet", "--no-pager", "-o", "cat", "-n", "300", f"INVOCATION_ID={invocation}"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    return [PREFIX.sub("", line).rstrip() for line in lines], systemd


def reasons(lines, systemd):
    """At most a dozen lines: the causes in the order in which they came, what we said, then systemd's verdict."""
    found = []
    lines = [line for line in lines if not line.startswith("why ")]
    for line in lines:
        if (
            (CAUSE.match(line) or line.startswith("engine "))
            and not ECHO.search(line)
            and line not in found
            and " answered after " not in line
        ):
            found.append(line[:400])
    ours = [line for line in found if line.startswith("engine ")]
    causes = [line for line in found if line not in ours][:5]
    verdict = [
        line
        for line in systemd
        if re.search(r"Failed with result|timed out|oom-kill|Start request repeated|status=", line)
    ]
    if not causes:
        idle = re.compile(r"\s*$|engine |Engine \d+: Avg prompt throughput")
        causes = [line[:400] for line in lines if not idle.match(line)][-6:]
    return [*causes, *[line for line in ours if " release " not in line][-2:], *verdict[-2:]]


def why(engine):
    if os.environ.get("SERVICE_RESULT") == "success":
        return
    for line in reasons(*last_start(engine)) or ["the journal has no line of its last start"]:
        print(f"why {engine}: {line}" if "SERVICE_RESULT" in os.environ else line)


def main():
    verbs = {"free": free, "run": run, "wait": wait, "why": why}
    if len(sys.argv) != 3 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    try:
        verbs[sys.argv[1]](sys.argv[2])
    except FileNotFoundError as error:
        sys.exit(f"engine {sys.argv[2]}: {error.filename} is missing; run site.yml for this node again")


if __name__ == "__main__":
    main()
