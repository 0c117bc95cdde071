"""When the certificate that the balancer serves ends. HAProxy's own page does not say it.

Asked for when the page is read, at most once a minute: what is served counts, not what lies on disk.
"""

import datetime
import socket
import ssl
import time
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NAME = "rackserve_certificate_not_after_timestamp_seconds"
_KEEP_SECONDS = 60.0
_DEADLINE_SECONDS = 2.0
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def not_after(der: bytes) -> float:
    """Seconds since 1970, of an X.509 certificate (RFC 5280). ValueError: it is none."""
    body = _inside(_inside(der, _SEQUENCE), _SEQUENCE)
    if body[:1] == bytes([_VERSION]):
        _, _, body = _next(body)
    for _ in ("serial number", "algorithm", "issuer"):
        _, _, body = _next(body)
    _, _, rest = _next(_inside(body, _SEQUENCE))
    tag, text, _ = _next(rest)
    return _moment(tag, text)


def _next(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what follows it."""
    if len(data) < 2:
        raise ValueError("it ends too early")
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start + size > len(data):
        raise ValueError("an element is longer than the rest")
    return data[0], data[start : start + size], data[start + size :]


def _inside(data: bytes, tag: int) -> bytes:
    found, content, _ = _next(data)
    if found != tag:
        raise ValueError(f"an element of kind {found} where {tag} has to be")
    return content


def _moment(tag: int, text: bytes) -> float:
    if tag == _UTC_TIME:
        # Two digits of the year: up to 49 they are of this century.
        text = (b"20" if text[:2] < b"50" else b"19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"an element of kind {tag} where a time has to be")
    read = datetime.datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ")
    return read.replace(tzinfo=datetime.UTC).timestamp()


def served(port: int) -> bytes:
    """The certificate that a TLS server on this machine shows to whoever names no host. OSError: none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent; one that has run out is just what has to be seen.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), _DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


class Certificate(Collector):
    """`port`: where TLS is served; None: nowhere, and the page has the name alone. So it has when nobody answers."""

    def __init__(self, port: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._port, self._clock = port, clock
        self._read: tuple[float, float] | None = None

    def use(self, port: int | None) -> None:
        self._port, self._read = port, None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(NAME, "When the certificate that is served ends, in seconds since 1970")
        if self._port is not None:
            moment = self._moment(self._port)
            if moment is not None:
                family.add_metric((), moment)
        yield family

    def _moment(self, port: int) -> float | None:
        if self._read is not None and self._clock() - self._read[0] < _KEEP_SECONDS:
            return self._read[1]
        try:
            moment = not_after(served(port))
        except (OSError, ValueError):
            # An alert tells that it is missing.
            self._read = None
            return None
        self._read = (self._clock(), moment)
        return moment
