"""The release on an engine: laid, started, looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rackserve.canary.run.world import DONE, Ended, Outcome
from rackserve.canary.world import playbook
from rackserve.canary.world.jobs import Jobs
from rackserve.canary.world.sight import engines as words_of
from rackserve.canary.world.site import Site
from rackserve.fleet.balancers import on_each
from rackserve.fleet.drain.back import DEADLINE_SECONDS, LENGTHS, PROMPT_SECONDS, WARM_UP_TOKENS
from rackserve.fleet.errors import NonsenseError
from rackserve.fleet.ssh import Host

CHECK_SECONDS = 240.0
# A node that cannot be asked for as long is as good as dead.
PATIENCE_SECONDS = 600.0
_NAMES_SECONDS = 10.0

OutOfService = Callable[[str], Outcome | None]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str
    seconds: float = 0
    tokens: int = 0


class _Names(BaseModel):
    """`models`: name -> where its files lie, empty where it does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, str]
    version: str
    error: str


@dataclass
class Engines:
    """`out`: says what is against a change of the engine, by the balancers."""

    site: Site
    jobs: Jobs
    out: OutOfService

    def install(self, engine: str, release: str) -> Outcome:
        return self._play(engine, release, False, playbook.INSTALL_SECONDS, f"laying {release} on the node of {engine}")

    def start(self, engine: str, release: str) -> Outcome:
        if not self.jobs.known(("start", engine, release)) and playbook.free(self.site.lock):
            word = words_of(self.site, [engine])[engine]
            if word.release == release:
                return DONE
            if refusal := self.out(engine):
                return refusal
        return self._play(engine, release, True, playbook.START_SECONDS, f"starting {engine} on {release}")

    def _play(self, engine: str, release: str, start: bool, seconds: float, what: str) -> Outcome:
        key = ("start" if start else "install", engine, release)
        if not self.jobs.known(key) and not playbook.free(self.site.lock):
            # Of a controller that died. It may be doing just this.
            return Outcome(Ended.DOING, "a playbook that was begun before is on its way")
        words = playbook.command(self.site.access, engine, release, start)
        return self.jobs.ask(
            key, lambda say: playbook.play(self.site.lock, words, seconds), seconds + 60, what, PATIENCE_SECONDS
        )

    def check(self, engine: str, release: str) -> Outcome:
        return self.jobs.ask(
            ("check", engine, release),
            lambda say: self._checked(engine, release, say),
            CHECK_SECONDS,
            f"checking {engine}",
            PATIENCE_SECONDS,
        )

    def _checked(self, engine: str, release: str, say: Callable[[str], None]) -> Outcome:
        """Raises FleetError."""
        word = words_of(self.site, [engine])[engine]
        if word.release is None:
            return Outcome(Ended.UNDONE, f"{engine}: {word.error}")
        if word.release != release:
            return Outcome(Ended.FAILED, f"{engine} runs {word.release}, not {release}")
        hosts = self.site.fleet.balancers
        names = _names(hosts[0], self._url(engine), self.site.fleet.key)
        if said := wrong(names, self.site.engines[engine]["served_names"], self.site.model(release)["path_key"]):
            return Outcome(Ended.FAILED, f"{engine}: {said}")
        say(f"asking {engine} for a token")
        outcome = on_each(hosts, lambda host: self._talk(host, engine, [(LENGTHS[0], 1)]))
        for balancer, error in outcome.failed.items():
            return Outcome(Ended.UNDONE, f"asked from {balancer}: {error}")
        for balancer, why in outcome.done.items():
            if why:
                return Outcome(Ended.FAILED, f"no token from {engine}, asked from {balancer}: {why}")
        half = max(int(self.site.model(release)["context_tokens"]) // 2, 1)
        for letters in (*LENGTHS, LENGTHS[0]):
            say(f"warming up {engine} with {letters} letters")
            if why := self._talk(hosts[0], engine, [(min(letters, half), WARM_UP_TOKENS)]):
                return Outcome(Ended.FAILED, f"{engine} at a warm-up prompt of {letters} letters: {why}")
        return DONE

    def _url(self, engine: str) -> str:
        return self.site.fleet.engines[engine].url

    def _talk(self, host: Host, engine: str, prompts: Sequence[tuple[int, int]]) -> str:
        """Why not; empty: it answered. Raises FleetError."""
        asked = {
            "url": self._url(engine),
            "key": self.site.fleet.key,
            "model": self.site.served_name(engine),
            "prompts": list(prompts),
            "seconds": PROMPT_SECONDS,
        }
        said = host.call("engines", {"action": "talk", "engines": {engine: asked}}, PROMPT_SECONDS + DEADLINE_SECONDS)
        try:
            told = [_Told.model_validate(one) for one in said[engine]]
        except (ValidationError, KeyError, TypeError) as error:
            raise NonsenseError(host.name, "engines", repr(said)[:200]) from error
        if not told:
            return f"no answer within {PROMPT_SECONDS:g} s"
        return told[-1].error or ("" if told[-1].tokens else "an answer without a token")


def _names(host: Host, url: str, key: str) -> _Names:
    asked = {"action": "names", "engines": {"": {"url": url, "key": key, "seconds": _NAMES_SECONDS}}}
    said: Any = host.call("engines", asked, _NAMES_SECONDS + DEADLINE_SECONDS)
    try:
        return _Names.model_validate(said[""])
    except (ValidationError, KeyError, TypeError) as error:
        raise NonsenseError(host.name, "engines", repr(said)[:200]) from error


def wrong(names: _Names, served: Sequence[str], path_key: str) -> str:
    """What is not as the release has it: names that clients use, and the directory of the model; empty: nothing. Pure."""
    if names.error:
        return f"it does not say which models it serves: {names.error}"
    if missing := [name for name in served if name not in names.models]:
        return f"it serves {', '.join(names.models) or 'nothing'}, and not {', '.join(missing)}"
    roots: Mapping[str, str] = {name: names.models[name] for name in served if names.models[name].startswith("/")}
    if other := next((root for root in roots.values() if not root.rstrip("/").endswith(f"/{path_key}")), None):
        return f"its model is {other}, not one of {path_key}"
    return ""
