"""Carries out what the probe asked for: keeps the stacks of a hung engine, ends all of its processes, starts it again.

Runs as root and for a moment only; the probe itself has no such right. Only engines of the settings are touched.
"""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from rackserve.health import settings as setting
from rackserve.health import stacks
from rackserve.health.processors import group_of

REQUESTS = "restart"
_COMMAND_SECONDS = 60.0


def say(sentence: str) -> None:
    """One line of the journal."""
    print(sentence, file=sys.stderr, flush=True)


def take(directory: Path) -> dict[str, str]:
    """Engine -> reason of every request there; they are gone afterwards. OSError: the directory cannot be read."""
    found: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        # A link would let its owner show us another file.
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found[path.name] = path.read_text()[:500].strip()
        path.unlink(missing_ok=True)
    return found


def systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemctl", "--no-pager", *words], capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
    )


def restart(engine: str, reason: str, settings: setting.Settings, spy: Path) -> bool:
    """True when systemd took the order. A dump that cannot be kept holds nothing up."""
    unit = settings.unit.format(engine=engine)
    if settings.dumps is not None:
        name = f"{engine}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.txt"
        try:
            path = Path(settings.dumps) / name
            path.write_text(f"{engine}: {reason}\n\n{stacks.dump(stacks.processes(group_of(unit)), spy)}")
            path.chmod(0o640)
            say(f"engine {engine}: stacks kept in {path}")
        except OSError as error:
            say(f"engine {engine}: stacks not kept in {settings.dumps}: {error.strerror}")
    # A hung engine does not answer SIGTERM, and waiting for its time to stop would take minutes.
    systemctl("kill", "--kill-whom=all", "--signal=KILL", unit)
    systemctl("reset-failed", unit)
    done = systemctl("restart", "--no-block", unit)
    say(f"engine {engine}: {'restarted' if done.returncode == 0 else done.stderr.strip()}: {reason}")
    return done.returncode == 0


def main() -> int:
    """0: all done. 1: systemd refused one. 2: the settings cannot be used."""
    if len(sys.argv) != 2:
        say("usage: python -m rackserve.health.restart SETTINGS.json")
        return 2
    try:
        settings = setting.read(Path(sys.argv[1]))
    except setting.SettingsError as error:
        say(str(error))
        return 2
    spy = Path(sys.executable).parent / "py-spy"
    known = {engine.name for engine in settings.engines}
    done = []
    for engine, reason in take(Path(settings.directory) / REQUESTS).items():
        if engine in known:
            done.append(restart(engine, reason, settings, spy))
        else:
            say(f"{engine!r} is no engine of this node; nothing done")
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
