"""Runs on a balancer: has the state of all servers saved now, as every reload has it, so that a HAProxy that is killed or
restarted comes back with it. Standard library only."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def answer(asked: dict[str, Any]) -> None:
    saver, *arguments = asked["command"]
    if not Path(saver).is_file():
        sys.exit(f"{saver} is not there: site.yml has not run on this balancer")
    try:
        done = subprocess.run(
            [sys.executable, saver, *arguments], capture_output=True, text=True, timeout=asked["seconds"], check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{saver}: {error}")
    if done.returncode:
        sys.exit(done.stderr.strip() or f"{saver}: exit {done.returncode}")
    print(json.dumps("saved"))
