"""How the lab speaks to a person: its lines of progress, its table of nodes."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

human = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
_STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of progress with the seconds since the start."""
    human.print(f"[lab {time.monotonic() - _STARTED:4.0f} s] {text}")


def names(items: Sequence[str], none: str = "none") -> str:
    return ", ".join(items) or none


def node_table(entries: Sequence[dict[str, Any]]) -> None:
    """Print the nodes on stdout; entries are those of ``rack.status``."""
    if not entries:
        say("the lab has no nodes. Run scripts/lab up.")
        return
    table = Table("node", "state", "system", "ssh", "address", "os", "disk", "inventory", box=None)
    for entry in entries:
        table.add_row(
            entry["name"],
            entry["state"],
            entry["system"] or "-",
            "answers" if entry["ssh"] else "silent",
            entry.get("address", "?"),
            entry.get("os", "?"),
            f"{entry['used_mib'] or 0}/{entry.get('disk_gib', 0) * 1024} MiB",
            entry.get("inventory", "?"),
        )
    # A pipe has no width: nothing may be cut off there.
    plain = Console(highlight=False)
    Console(highlight=False, width=plain.width if plain.is_terminal else 200).print(table)
