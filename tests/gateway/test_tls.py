"""The API port with a certificate: read from the candidate, modern TLS only, HTTP/2 offered."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.asking import CHAT, chat, stream
from gateway.balancer import Balancer, candidate
from gateway.plan import FIRST_PORT, KEYS, plan


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, running: Balancer) -> Path:
    """A self-signed certificate for the balancer's address."""
    folder = tmp_path_factory.mktemp("tls")
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
