"""What the benches share: running a command with its wall and CPU time, and storing a result with its command."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of CPU in the command and all its children."""

    wall_seconds: float
    cpu_seconds: float
    output: str


def cost(*command: str, cwd: Path = REPOSITORY, limit_seconds: int = 3600, **environment: str) -> Cost:
    """Runs a command to its end. Raises SystemExit with the last lines of its output when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_seconds,
        check=False,
    )
    wall = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(round(wall, 2), round(cpu, 2), done.stdout)


def store(name: str, command: str, figures: dict[str, Any]) -> None:
    """Writes one result beside the earlier ones, with what it was measured on, and prints it."""
    result = {
        "bench": name,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def plain(value: Cost) -> dict[str, float]:
    return {key: number for key, number in asdict(value).items() if key != "output"}
