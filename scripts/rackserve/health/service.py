"""The process: every engine of the node watched, the balancers answered, systemd told that all of it still runs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import start_http_server

from rackserve.health import keep
from rackserve.health import settings as setting
from rackserve.health.agent import Agent, Said
from rackserve.health.looks import Decision, Memory, State
from rackserve.health.metrics import Metrics
from rackserve.health.processors import Processors
from rackserve.health.restart import REQUESTS
from rackserve.health.watch import Watch, rules_of
from rackserve.notify import Notify

# An engine that was not looked at for so long is not watched any more, so systemd hears nothing and restarts the probe.
UNWATCHED_SECONDS = 8.0
_TICK_SECONDS = 1.0


def say(sentence: str) -> None:
    """One line of the journal."""
    print(sentence, file=sys.stderr, flush=True)


class Service:
    """What is known of the node's engines, and what is done with it."""

    def __init__(self, settings: setting.Settings, key: str, program: str = "none") -> None:
        self.metrics = Metrics(settings, program)
        self._directory = Path(settings.directory)
        memories = self._remembered()
        self._said: dict[str, Said] = {}
        self._looked: dict[str, float] = {}
        self.watches: list[Watch] = []
        for engine in settings.engines:
            memory = memories.get(engine.name, Memory())
            word = False if memory.state is State.HUNG else None
            self._said[engine.name] = (word, "hung before the probe was restarted")
            self._looked[engine.name] = time.monotonic()
            processors = Processors(settings.unit.format(engine=engine.name))
            rules = rules_of(engine, settings)
            self.watches.append(Watch(engine, rules, key, memory, processors, self._decided, say))
        self._kept = ""

    def said(self, engine: str) -> Said | None:
        return self._said.get(engine)

    def watches_all(self, now: float) -> bool:
        return all(now - looked < UNWATCHED_SECONDS for looked in self._looked.values())

    def _remembered(self) -> Mapping[str, Memory]:
        try:
            return keep.read(self._directory)
        except keep.Unreadable as error:
            say(f"{error}; begun anew")
            return {}

    def _decided(self, engine: setting.Engine, decision: Decision, at: float) -> None:
        self._looked[engine.name] = at
        self._said[engine.name] = (decision.word, f"{decision.memory.state.value}: {decision.reason}")
        self.metrics.saw(engine, decision, next(w.rules for w in self.watches if w.engine is engine), at)
        try:
            self._keep()
            if decision.restart:
                # Written down above, so that a probe that dies here does not ask a second time.
                self._request(engine.name, decision.reason)
        except OSError as error:
            say(f"{self._directory}: {error.strerror}; {'no restart' if decision.restart else 'nothing kept'}")

    def _keep(self) -> None:
        text = keep.text({watch.engine.name: watch.memory for watch in self.watches})
        if text != self._kept:
            keep.write(self._directory, text)
            self._kept = text

    def _request(self, engine: str, reason: str) -> None:
        """By rename: who carries it out finds all of it or nothing."""
        new = self._directory / f".{engine}"
        new.write_text(reason + "\n")
        os.replace(new, self._directory / REQUESTS / engine)


def run(path: Path) -> int:
    """Until SIGTERM: 0. 1: no port. 2: the settings cannot be used."""
    try:
        settings = setting.read(path)
    except setting.SettingsError as error:
        say(str(error))
        return 2
    service = Service(settings, os.environ.get("RACKSERVE_ENGINE_KEY", ""), os.environ.get("RACKSERVE_PROGRAM", "none"))
    where = settings.metrics
    try:
        start_http_server(where.port, where.address, service.metrics.registry)
    except OSError as error:
        say(f"{where.address}:{where.port}: no page of metrics can be served: {error.strerror}")
        return 1
    return asyncio.run(_serve(service, settings.agent, Notify(os.environ)))


async def _serve(service: Service, where: setting.Listen, notify: Notify) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent = Agent(service.said)
    try:
        await agent.open(where.address, where.port)
    except OSError as error:
        say(f"{where.address}:{where.port}: balancers cannot be answered: {error.strerror}")
        return 1
    tasks = [asyncio.ensure_future(watch.run()) for watch in service.watches]
    notify.say("READY=1")
    try:
        while not stop.is_set():
            await _pause(stop)
            for task in tasks:
                if task.done():
                    # What nobody expected: systemd starts the probe anew, and the journal has the reason.
                    task.result()
            if service.watches_all(time.monotonic()):
                notify.alive(time.monotonic())
    finally:
        notify.say("STOPPING=1")
        agent.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return 0


async def _pause(stop: asyncio.Event) -> None:
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait({waiting}, timeout=_TICK_SECONDS)
    waiting.cancel()
