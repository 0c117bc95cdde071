"""CPU seconds so far and resident KiB of a process and all its descendants. In the bench node: python3 cost.py PID"""

import contextlib
import os
import sys
from pathlib import Path

rows: dict[int, tuple[int, int, int]] = {}
for path in Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(OSError):
        text = path.read_text()
        fields = text[text.rindex(")") + 2 :].split()
        rows[int(path.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[21]))
wanted = {int(sys.argv[1])}
while more := {pid for pid, (parent, _, _) in rows.items() if parent in wanted} - wanted:
    wanted |= more
found = [rows[pid] for pid in wanted if pid in rows]
print(
    sum(ticks for _, ticks, _ in found) / os.sysconf("SC_CLK_TCK"),
    sum(pages for _, _, pages in found) * os.sysconf("SC_PAGE_SIZE") // 1024,
)
