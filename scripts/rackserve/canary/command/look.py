"""What is shown of runs, and what is told to one; each in one go."""

import json
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import typer

from rackserve.canary.command import words
from rackserve.canary.command.ending import refusals
from rackserve.canary.run import command
from rackserve.canary.run.journal import Kind
from rackserve.canary.run.lock import living
from rackserve.fleet.drain.records import operator

_LOOK_SECONDS = 1.0


def say(text: str) -> None:
    """For people; stdout is for programs."""
    sys.stderr.write(f"{text}\n")


def end(code: int, said: str, as_json: bool, **more: Any) -> NoReturn:
    say(f"canary: {said}")
    if as_json:
        print(json.dumps({**more, "said": said, "code": code}))
    raise typer.Exit(code)


def attended(unwatched: bool) -> str:
    """Why not; empty: go on. Until the watchdog is installed on the balancers a person has to stand in for it."""
    if unwatched:
        return ""
    return (
        "the balancers have no watchdog yet. Should this command, its machine or its network die, the canary keeps its share, and "
        "nobody judges it, until `scripts/canary resume RUN` or `scripts/rollback POOL`. --unwatched: somebody stays to do that"
    )


def agreed(question: str, yes: bool) -> str:
    """Why not; empty: go on."""
    if yes:
        return ""
    if not sys.stdin.isatty():
        return "nobody can be asked here; --yes says it"
    return "" if typer.confirm(question, err=True) else "you said no"


def told(run: str, kind: Kind, root: Path, as_json: bool, step: float | None = None) -> NoReturn:
    with refusals():
        one = command.find(root, run)
        if one.plan and one.record and one.record.over:
            end(words.HELD, f"it is over: {words.ended(one.plan, one.record)[1]}", as_json, run=run)
        code, said = command.give(root, run, kind, operator(), step)
        end(code, f"run {run}: {said}", as_json, run=run)


def alive(root: Path, one: command.Row) -> bool:
    return one.plan is not None and living(root, one.plan.pool)


def status(root: Path, run: str | None, as_json: bool) -> None:
    rows = [command.find(root, run)] if run else [one for one in command.history(root) if not words.over(one)]
    if as_json:
        print(json.dumps([words.listed(one, alive(root, one)) for one in rows]))
        return
    lines = [line for one in rows for line in command.lines(one, alive(root, one))]
    print("\n".join(lines) or f"no run is on its way; those that were: scripts/canary history. They are kept in {root}")


def watch(root: Path, run: str) -> NoReturn:
    shown = ""
    while True:
        one = command.find(root, run)
        text = "\n".join(command.lines(one, alive(root, one)))
        if text != shown:
            print(text, flush=True)
        if one.plan is None or one.record is None:
            end(words.FAILED, one.damaged, as_json=False)
        if one.record.over:
            end(*words.ended(one.plan, one.record), as_json=False)
        shown = text
        time.sleep(_LOOK_SECONDS)


def history(root: Path, as_json: bool) -> None:
    rows = command.history(root)
    if as_json:
        print(json.dumps([words.listed(one, alive(root, one)) for one in rows]))
    else:
        print("\n".join(words.row(one) for one in rows) or f"no run is kept in {root}")
