"""What the processes of an engine were doing, as text: what the kernel says of each thread, then Python's own stacks.

Nothing here waits for the processes, so it works on one that is stopped or stuck in the driver.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

_SPY_SECONDS = 20.0
# Of a process with hundreds of threads the first say enough.
_THREADS_AT_MOST = 64


def processes(group: Path | None) -> list[int]:
    """Process ids in a list of a control group (cgroup.procs) and those below it. Empty where there is none."""
    if group is None:
        return []
    found: list[int] = []
    for file in sorted([group, *group.parent.glob("*/**/cgroup.procs")]):
        found += [int(word) for word in _text(file).split() if word.isdigit()]
    return sorted(set(found))


def dump(pids: Iterable[int], spy: Path, proc: Path = Path("/proc")) -> str:
    """All of them, one after the other. Never raises OSError: what cannot be read is said in its place."""
    return "\n".join(_one(pid, spy, proc) for pid in pids) or "no process is left\n"


def _one(pid: int, spy: Path, proc: Path) -> str:
    folder = proc / str(pid)
    command = _text(folder / "cmdline").replace("\0", " ").strip()
    lines = [f"=== process {pid}: {command}"]
    threads = sorted((folder / "task").glob("*"), key=lambda path: int(path.name)) if (folder / "task").is_dir() else []
    for thread in threads[:_THREADS_AT_MOST]:
        state = next((line for line in _text(thread / "status").splitlines() if line.startswith("State:")), "State: ?")
        name, waits = _text(thread / "comm").strip(), _text(thread / "wchan").strip()
        lines.append(f"thread {thread.name} {name}: {state.partition(':')[2].strip()}, waits in {waits or '?'}")
    if len(threads) > _THREADS_AT_MOST:
        lines.append(f"and {len(threads) - _THREADS_AT_MOST} more threads")
    return "\n".join([*lines, "--- Python", _python(pid, spy), ""])


def _python(pid: int, spy: Path) -> str:
    try:
        done = subprocess.run(
            [str(spy), "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True,
            text=True,
            timeout=_SPY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{spy}: {error}"
    return done.stdout.strip() or done.stderr.strip() or f"{spy} said nothing, exit {done.returncode}"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"({error.strerror})"
