"""The loop: take lines, write them, count them. Every part that decides something is elsewhere."""

import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

from prometheus_client import start_http_server

from rackserve.notify import Notify
from rackserve.traffic_log import settings as setting
from rackserve.traffic_log.certificate import Certificate
from rackserve.traffic_log.files import Files, last_lines
from rackserve.traffic_log.line import Notice, Request, parse
from rackserve.traffic_log.losses import Losses
from rackserve.traffic_log.metrics import Metrics
from rackserve.traffic_log.receive import Receiver, SocketError, bound, passed

BATCH = 1000
TICK_SECONDS = 0.5
TIDY_SECONDS = 60.0
LAST_DRAIN_LINES = 100_000


def say(sentence: str) -> None:
    """One line of the journal."""
    print(sentence, file=sys.stderr, flush=True)


def known_numbers(directory: Path) -> dict[int, int] | None:
    """The last number of each process, by the files' ends. None: nothing was written yet, or nothing can be read."""
    try:
        lines = last_lines(directory)
    except OSError as error:
        say(f"{directory}: {error.strerror}; nobody knows how many lines were lost before this start")
        return None
    numbers: dict[int, int] = {}
    for line in lines:
        record = parse(line)
        if record is not None and record.process is not None and record.number is not None:
            numbers[record.process] = max(record.number, numbers.get(record.process, -1))
    return numbers or None


class Service:
    """Lines in, files and metrics out. Time in seconds of a clock that never goes back."""

    def __init__(self, settings: setting.Settings, program: str = "none") -> None:
        directory = Path(settings.directory)
        self.metrics = Metrics(settings, program=program)
        self.certificate = Certificate(settings.tls_port)
        self.metrics.registry.register(self.certificate)
        self.losses = Losses(known_numbers(directory))
        self.files = Files(directory, settings.retention, say)
        self._default = settings.retention.default
        self._tidied = 0.0

    def use(self, settings: setting.Settings) -> None:
        for name in self.metrics.use(settings):
            say(f"{name} has other edges now and begins anew")
        self.files.use(settings.retention)
        self.certificate.use(settings.tls_port)
        self._default = settings.retention.default

    def take(self, lines: list[bytes], now: float) -> None:
        """Written first: what the page counts is in the files too, whatever happens in between."""
        batches: dict[str, list[bytes]] = {}
        requests: list[Request] = []
        numbers: list[tuple[int, int]] = []
        garbage = notices = 0
        for line in lines:
            text = line.strip(b" \r\n\0")
            record = parse(text)
            if record is None:
                garbage += 1
                continue
            if isinstance(record, Notice):
                # It belongs to what HAProxy says about itself, in the journal.
                say(f"HAProxy: {record.text}")
                notices += 1
                continue
            name = self._default
            if isinstance(record, Request):
                requests.append(record)
                name = self.files.class_of(record.lane, record.tenant)
            if record.process is not None and record.number is not None:
                numbers.append((record.process, record.number))
            batches.setdefault(name, []).append(text.replace(b"\n", b" ") if b"\n" in text else text)
        before = self.files.unwritten
        self.files.write(batches)
        self.metrics.unwritten.inc(self.files.unwritten - before)
        for request in requests:
            self.metrics.add(request)
        self.metrics.lines.labels("read").inc(len(lines) - garbage - notices)
        self.metrics.lines.labels("garbage").inc(garbage)
        self.metrics.lines.labels("notice").inc(notices)
        self.losses.batch(numbers, now)

    def tick(self, now: float) -> None:
        for loss in self.losses.settle(now):
            self.metrics.lost.inc(loss.lines)
            say(f"{loss.lines} request lines of HAProxy process {loss.process} lost, up to its line {loss.number}")
        if now - self._tidied >= TIDY_SECONDS:
            self.files.tidy()
            self._tidied = now


class _Signals:
    """Raises flags only; the loop reads them. A byte on the pair wakes it."""

    def __init__(self) -> None:
        self.stop = self.reread = False
        self.wake, self._other = socket.socketpair()
        self.wake.setblocking(False)
        self._other.setblocking(False)
        signal.set_wakeup_fd(self._other.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._got)
        signal.signal(signal.SIGINT, self._got)
        signal.signal(signal.SIGHUP, self._got)

    def _got(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            self.reread = True
        else:
            self.stop = True


def run(path: Path) -> int:
    """Until SIGTERM: 0. 1: no socket or no page. 2: the settings cannot be used."""
    signals = _Signals()
    try:
        settings = setting.read(path)
    except setting.SettingsError as error:
        say(str(error))
        return 2
    try:
        source = bound(Path(settings.socket)) if settings.socket else passed(os.environ)
    except SocketError as error:
        say(str(error))
        return 1
    if source is None:
        say("no socket: start through the socket unit, or give `socket` in the settings")
        return 1
    try:
        service = Service(settings, os.environ.get("RACKSERVE_PROGRAM", "none"))
        server, _ = start_http_server(settings.listen.port, settings.listen.address, service.metrics.registry)
    except OSError as error:
        say(f"{settings.listen.address}:{settings.listen.port}: no page of metrics can be served: {error.strerror}")
        return 1
    say(f"metrics at {settings.listen.address}:{server.server_port}/metrics")
    _loop(path, service, Receiver(source), signals, Notify(os.environ))
    server.shutdown()
    service.files.close()
    return 0


def _loop(path: Path, service: Service, receiver: Receiver, signals: _Signals, notify: Notify) -> None:
    notify.say("READY=1")
    ticked = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)
        selector.register(signals.wake, selectors.EVENT_READ)
        while not signals.stop:
            for key, _ in selector.select(TICK_SECONDS):
                if key.fileobj is signals.wake:
                    signals.wake.recv(4096)
            now = time.monotonic()
            if lines := receiver.drain(BATCH):
                service.take(lines, now)
            if now - ticked >= TICK_SECONDS:
                service.tick(now)
                ticked = now
            notify.alive(now)
            if signals.reread:
                signals.reread = False
                _reread(path, service, notify)
    notify.say("STOPPING=1")
    taken = 0
    while taken < LAST_DRAIN_LINES and (lines := receiver.drain(BATCH)):
        service.take(lines, time.monotonic())
        taken += len(lines)


def _reread(path: Path, service: Service, notify: Notify) -> None:
    """Address, socket and directory stay until the next start. Settings that cannot be used change nothing."""
    notify.say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        service.use(setting.read(path))
        say("settings read again")
    except setting.SettingsError as error:
        say(f"settings stay as they were: {error}")
    notify.say("READY=1")
