"""Figures of a drill, kept beside it with the command and what they were measured on."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def store(name: str, figures: dict[str, Any]) -> None:
    result = {
        "drill": name,
        "command": f"make drills (tests/drills/test_{name}.py)",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
