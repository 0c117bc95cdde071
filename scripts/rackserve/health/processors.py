"""How long an engine's processes have waited for a processor: one that gets none stands still and does not hang.

A stopped process, and one that is stuck in the driver, wait for none.
"""

from collections.abc import Mapping
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
# The engine core and its workers call themselves so; the API server, which goes on when the core hangs, does not.
_CORE = "VLLM::"


def group_of(unit: str, groups: Path = _GROUPS) -> Path | None:
    """The list of processes of a template's unit, in any layout of control groups. None: systemd has no such unit now."""
    slice_name = "system-" + unit.partition("@")[0].replace("-", r"\x2d") + ".slice"
    for root in (groups, groups / "systemd", groups / "unified"):
        path = root / "system.slice" / slice_name / unit / "cgroup.procs"
        if path.exists():
            return path
    return None


class Processors:
    """Of one unit. Reads some small files at each call."""

    def __init__(self, unit: str, groups: Path = _GROUPS, proc: Path = Path("/proc")) -> None:
        self._unit, self._groups, self._proc = unit, groups, proc
        self._group: Path | None = None
        self._all: list[str] = []
        self._core: list[str] = []

    def waited(self) -> Mapping[str, float]:
        """Seconds so far by process id. Empty where nothing can be read."""
        try:
            if self._group is None:
                self._group = group_of(self._unit, self._groups)
            if self._group is None:
                return {}
            everyone = self._group.read_text().split()
            if everyone != self._all:
                named = [pid for pid in everyone if (self._proc / pid / "comm").read_text().startswith(_CORE)]
                self._all, self._core = everyone, named
            return {pid: int((self._proc / pid / "schedstat").read_text().split()[1]) / 1e9 for pid in self._core}
        except (OSError, ValueError, IndexError):
            # It ended meanwhile, or this kernel does not say.
            self._group, self._all = None, []
            return {}
