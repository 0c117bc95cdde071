"""The API port with a certificate: read from the candidate, modern TLS only, HTTP/2 offered."""

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, plan
from gateway.stub import Stub


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, running: Balancer) -> Path:
    return certificate_in(tmp_path_factory.mktemp("tls"), running)


def certificate_in(folder: Path, running: Balancer) -> Path:
    """A self-signed certificate for the balancer's address."""
    key, chain = folder / "key.pem", folder / "cert.pem"
    name = ["-subj", "/CN=gateway", "-addext", f"subjectAltName=IP:{running.node.address}"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command = ["openssl", "req", "-x509", "-days", "2", *curve, *name, "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    (folder / "api.pem").write_text(chain.read_text() + key.read_text())
    return folder


@pytest.fixture(scope="module")
def secure(running: Balancer, certificate: Path, stub_address: str) -> Iterator[str]:
    """The same service behind TLS; afterwards plain again."""
    service = plan(stub_address, FIRST_PORT)
    running.reload(candidate(service, haproxy_tls_pem=(certificate / "api.pem").read_text()))
    yield running.url.replace("http://", "https://")
    running.reload(candidate(service))


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "cert.pem"))


@pytest.mark.usefixtures("balancer")
def test_a_stream_over_tls(secure: str, certificate: Path) -> None:
    headers = {"authorization": f"Bearer {KEYS['demo']}"}
    with httpx.Client(base_url=secure, headers=headers, verify=trusting(certificate), timeout=15) as client:
        seen = stream(client, chat(stream=True, tokens=4))
        assert seen.tokens == ["t0 ", "t1 ", "t2 ", "t3 "]
        assert client.post(CHAT, json=chat("none")).json()["error"]["code"] == "model_not_found"


@pytest.mark.usefixtures("balancer")
def test_http_2_is_offered_and_serves(secure: str, certificate: Path) -> None:
    command = ["curl", "--silent", "--show-error", "--http2", "--cacert", str(certificate / "cert.pem")]
    command += ["--write-out", "\n%{http_version} %{http_code}", "-H", f"Authorization: Bearer {KEYS['demo']}"]
    answer = subprocess.run([*command, f"{secure}/v1/models"], capture_output=True, text=True, timeout=15, check=True)
    assert answer.stdout.splitlines()[-1] == "2 200"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_tls_is_refused(secure: str, certificate: Path, version: ssl.TLSVersion) -> None:
    context = trusting(certificate)
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        httpx.Client(verify=context, timeout=5) as client,
        pytest.raises(httpx.ConnectError, match=r"(?i)alert|version"),
    ):
        client.get(f"{secure}/healthz")


def test_answers_over_tls_ask_to_be_asked_over_tls(balancer: Balancer, secure: str, certificate: Path) -> None:
    answer = httpx.get(f"{secure}/healthz", verify=trusting(certificate))
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def serial(running: Balancer) -> str:
    """Of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(running.api, timeout=10) as plain, context.wrap_socket(plain) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def test_a_renewed_certificate_is_served_after_a_reload_that_cuts_no_stream(
    balancer: Balancer,
    secure: str,
    certificate: Path,
    stub_address: str,
    stub: Stub,
    tmp_path: Path,
) -> None:
    before = serial(balancer)
    headers = {"authorization": f"Bearer {KEYS['demo']}"}

    def one(_: int) -> bool:
        with httpx.Client(base_url=secure, headers=headers, verify=trusting(certificate), timeout=60) as client:
            return stream(client, chat("many", stream=True, tokens=40, gap=0.1)).complete

    with ThreadPoolExecutor(20) as pool:
        streams = [pool.submit(one, number) for number in range(20)]
        eventually(lambda: len(stub.seen("many-1")) + len(stub.seen("many-2")) == 20, "20 streams run", 30)
        renewed = certificate_in(tmp_path, balancer)
        service = plan(stub_address, FIRST_PORT)
        balancer.reload(candidate(service, haproxy_tls_pem=(renewed / "api.pem").read_text()))
        assert not any(done.done() for done in streams), "they were running while it was reloaded"
        assert serial(balancer) != before
        assert [done.result() for done in streams] == [True] * 20, "none was cut"
    balancer.reload(candidate(service, haproxy_tls_pem=(certificate / "api.pem").read_text()))


def test_the_definition_says_the_oldest_version(stub_address: str) -> None:
    service = plan(stub_address, FIRST_PORT) | {"tls": {"minimum_version": "1.3"}}
    text = candidate(service, haproxy_tls_pem="x").text("haproxy.cfg")
    assert "ssl-min-ver TLSv1.3 " in text
