"""The end of the certificate that is served: read from its bytes, asked from a real server."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from rackserve.traffic_log.certificate import NAME, Certificate, not_after

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def made(ends: datetime.datetime, key: Key | None = None) -> tuple[x509.Certificate, Key]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "balancer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    begins = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return builder.not_valid_before(begins).not_valid_after(ends).sign(key, hashes.SHA256()), key


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "ends", [datetime.datetime(year, 2, 28, 23, 59, 7, tzinfo=datetime.UTC) for year in (2026, 2049, 2050, 2500)]
)
def test_the_end_is_read_in_both_forms_of_time(ends: datetime.datetime) -> None:
    assert not_after(der(made(ends)[0])) == ends.timestamp()


def test_a_long_certificate_is_read_too() -> None:
    ends = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
    assert not_after(der(made(ends, rsa.generate_private_key(65537, 2048))[0])) == ends.timestamp()


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        not_after(text)


def test_a_cut_certificate_is_refused() -> None:
    whole = der(made(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))[0])
    with pytest.raises(ValueError, match="longer than the rest"):
        not_after(whole[:60])


@contextmanager
def serving(directory: Path, ends: datetime.datetime) -> Iterator[int]:
    certificate, key = made(ends)
    pem = directory / "served.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def value(certificate: Certificate) -> float | None:
    registry = CollectorRegistry()
    registry.register(certificate)
    return registry.get_sample_value(NAME)


def test_what_is_served_is_asked_at_most_once_a_minute_and_is_missing_when_nobody_answers(tmp_path: Path) -> None:
    now = [0.0]
    # One that has run out is just what has to be seen.
    ends = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
    with serving(tmp_path, ends) as port:
        certificate = Certificate(port, lambda: now[0])
        assert value(certificate) == ends.timestamp()
    now[0] = 59.0
    assert value(certificate) == ends.timestamp()
    now[0] = 61.0
    assert value(certificate) is None
    certificate.use(None)
    assert value(certificate) is None
