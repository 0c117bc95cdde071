"""Figures of a drill, kept beside it with the command and what they were measured on."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("RACKSERVE_DRILL_RESULTS") or Path(__file__).resolve().parent / "results")


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


def add_fault(name: str, figures: dict[str, Any]) -> None:
    """One row of the table of faults; the other rows stay as they were measured, each with its date."""
    path = RESULTS / "faults.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    rows[name] = {"date": time.strftime("%Y-%m-%d"), **figures}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")
    columns = list(rows[name])
    lines = [
        "# Faults under load",
        "",
        f"`pytest tests/drills/test_faults.py` on the rack lab ({os.cpu_count()} cores). What each column means: that file.",
        "",
        f"| fault | {' | '.join(column.replace('_', ' ') for column in columns)} |",
        f"| --- |{' --- |' * len(columns)}",
        *[f"| {fault} | {' | '.join(str(row[column]) for column in columns)} |" for fault, row in sorted(rows.items())],
    ]
    (RESULTS / "faults.md").write_text("\n".join(lines) + "\n")
