"""What operators may say to scripts/canary."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="the run's id, as `scripts/canary history` has it")]
SomeRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="default: every run that is not over")]
Percent = Annotated[float, typer.Argument(metavar="PERCENT", help="the step that it waits for")]
Pool = Annotated[str, typer.Option("--pool", help="the pool that gets it")]
Release = Annotated[str, typer.Option("--release", help="a release of the definition")]
Where = Annotated[Path, typer.Option("--inventory", "-i", help="inventory directory", show_default=True)]
AsBegun = Annotated[Path | None, typer.Option("--inventory", "-i", help="default: as it was begun")]
Engine = Annotated[str | None, typer.Option("--engine", help="who tries it; default: the pool's last engine")]
Trial = Annotated[bool, typer.Option("--trial", help="A against A: the same release, never promoted")]
Peak = Annotated[float | None, typer.Option("--peak", min=0, help="most requests at a time, if no monitor knows")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="preflight and forecast only; change nothing")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask first")]
Unwatched = Annotated[
    bool, typer.Option("--unwatched", help="somebody stays: no watchdog takes the share back if this command dies")
]
Runs = Annotated[
    Path | None, typer.Option("--runs", help="where runs are kept; default: ~/.local/state/rackserve/canary")
]
Out = Annotated[Path | None, typer.Option("--out", help="directory; default: the run's own")]
AsJson = Annotated[bool, typer.Option("--json", help="print one object on stdout")]
VaultId = Annotated[list[str] | None, typer.Option("--vault-id", help="NAME@prompt or NAME@FILE, as for ansible")]
VaultFile = Annotated[list[Path] | None, typer.Option("--vault-password-file", help="file with the vault password")]
