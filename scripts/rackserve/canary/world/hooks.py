"""Tells who wants to know what happens: the definition's commands and web addresses. Beside the run, which waits for nobody."""

import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from rackserve.canary.run.world import Event
from rackserve.definition.models.canary import Hook

DEADLINE_SECONDS = 10.0


@dataclass
class Hooks:
    """`say`: gets a line about a receiver that could not be told. Changes of traffic stand in the balancers' journals: the program
    that makes them writes who, from where, what, before and after."""

    hooks: Sequence[Hook]
    say: Callable[[str], None]
    seconds: float = DEADLINE_SECONDS
    _threads: list[threading.Thread] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self._threads = [one for one in self._threads if one.is_alive()]
        for hook in self.hooks:
            if hook.event == event.kind:
                thread = threading.Thread(target=self._one, args=(hook, event), name=f"hook {event.kind}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def wait(self) -> None:
        """For what is on its way, at the end of the process."""
        for one in self._threads:
            one.join(self.seconds + 1)

    def _one(self, hook: Hook, event: Event) -> None:
        receiver = str(hook.command or hook.webhook)
        try:
            if hook.command:
                self._command(hook.command, event)
            else:
                answer = httpx.post(
                    str(hook.webhook),
                    content=event.model_dump_json(),
                    headers={"content-type": "application/json"},
                    timeout=self.seconds,
                )
                answer.raise_for_status()
        except (OSError, ValueError, subprocess.SubprocessError, httpx.HTTPError, httpx.InvalidURL) as error:
            said = " ".join(str(error).split())[:200]
            self.say(f"hook of {event.kind}: {_short(receiver)} was not told: {type(error).__name__}: {said}")

    def _command(self, command: str, event: Event) -> None:
        done = subprocess.run(
            [command],
            input=event.model_dump_json(),
            text=True,
            capture_output=True,
            errors="replace",
            timeout=self.seconds,
            check=False,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ValueError(f"exit {done.returncode}: {lines[-1] if lines else 'it said nothing'}")


def _short(receiver: str) -> str:
    """Addresses of receivers often hold a token in their path."""
    scheme, found, rest = receiver.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if found else receiver
