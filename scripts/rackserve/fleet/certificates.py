"""The balancers' certificate, from the definition: supplied by the operator, or made by a CA of the lab's own.

The lab's CA lives in one directory of the controller and goes with the lab. One certificate serves all balancers: it has
their addresses, the virtual one and their names, and is made anew when one of these changes or its end is near.
"""

import datetime
import fcntl
import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rackserve.fleet.haproxy_files import RenderError

_CA_DAYS, _DAYS, _RENEW_DAYS = 3650, 365, 30
_Name = x509.DNSName | x509.IPAddress


def pem_for(plan: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Certificate, chain and private key in PEM; empty without TLS. Raises RenderError, naming what is missing."""
    tls = plan.get("tls")
    if not tls:
        return ""
    if tls["certificate"] == "supplied":
        return _supplied(tls, variables)
    return _lab(plan, Path(tls["trusted_by"]).parent)


def _supplied(tls: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    try:
        chain = Path(tls["chain"]).read_text()
    except OSError as error:
        raise RenderError(
            f"service_tls.chain {tls['chain']}: {error.strerror}. It is read on the controller."
        ) from error
    name = tls["key_variable"]
    key = str(variables[name]) if name in variables else ""
    if "PRIVATE KEY" not in key:
        raise RenderError(
            f"service_tls.key_variable names {name}, which holds no private key in PEM; put it into the vault."
        )
    return f"{chain.strip()}\n{key.strip()}\n"


def _lab(plan: Mapping[str, Any], folder: Path) -> str:
    try:
        with _locked(folder):
            ca, ca_key = _ca(folder)
            names = names_of(plan)
            server = folder / f"{plan['name']}.pem"
            if not _fits(server, names, ca):
                _write(server, _issue(str(plan["name"]), names, ca, ca_key))
            return server.read_text()
    except OSError as error:
        raise RenderError(
            f"the lab's CA in {folder}: {error.strerror}. Run as the user that runs the lab (root), or use certificate: supplied."
        ) from error


def names_of(plan: Mapping[str, Any]) -> list[_Name]:
    """Everything under which a client may ask."""
    addresses = [str(plan["nodes"][name]["address"]) for name in plan["balancers"]]
    if virtual := plan.get("virtual_address"):
        addresses.append(str(virtual["address"]))
    found: list[_Name] = [x509.DNSName(name) for name in ("localhost", *plan["balancers"])]
    return [*found, *(x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", *addresses))]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Ansible asks for all balancers at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not (certificate.exists() and key.exists()):
        made = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rackserve lab CA")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        signed = (
            _builder(name, name, made.public_key(), _CA_DAYS)
            .add_extension(basic, critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(made.public_key()), critical=False)
            .sign(made, hashes.SHA256())
        )
        _write(key, _private(made))
        _write(certificate, signed.public_bytes(serialization.Encoding.PEM).decode(), 0o644)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise RenderError(f"{key} is not the key of the lab's CA; remove {folder}, and it is made again.")
    return x509.load_pem_x509_certificate(certificate.read_bytes()), loaded


def _issue(name: str, names: list[_Name], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    signed = (
        _builder(subject, ca.subject, key.public_key(), _DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode() + _private(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # An hour back, for nodes whose clock is a little behind.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _fits(path: Path, names: list[_Name], ca: x509.Certificate) -> bool:
    if not path.exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(ca)
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        # Not a certificate of this CA: it is made again.
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return set(has) == set(names) and left > datetime.timedelta(days=_RENEW_DAYS)


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
        file.write(text)
    beside.replace(path)
