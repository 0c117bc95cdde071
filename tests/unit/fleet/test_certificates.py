"""The certificate of the balancers: supplied, or of the lab's own CA."""

import ipaddress
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store
from rackserve.fleet.certificates import pem_for
from rackserve.fleet.haproxy_files import RenderError


def plan(folder: Path, **changes: Any) -> dict[str, Any]:
    nodes = {"lb1": {"address": "192.0.2.11"}, "lb2": {"address": "192.0.2.12"}}
    tls = {"certificate": "lab_ca", "chain": None, "key_variable": None, "trusted_by": str(folder / "ca" / "ca.pem")}
    virtual = {"address": "192.0.2.10"}
    return {
        "name": "lab",
        "nodes": nodes,
        "balancers": ["lb1", "lb2"],
        "virtual_address": virtual,
        "tls": tls,
    } | changes


def test_without_tls_there_is_none(tmp_path: Path) -> None:
    assert pem_for(plan(tmp_path, tls=None), {}) == ""
    assert not list(tmp_path.iterdir())


def test_the_labs_ca_vouches_for_every_address_and_name(tmp_path: Path) -> None:
    pem = pem_for(plan(tmp_path), {}).encode()
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(pem, None)
    assert certificate.public_key() == key.public_key()
    ca = x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.pem").read_bytes())
    verifier = PolicyBuilder().store(Store([ca]))
    for address in ("192.0.2.10", "192.0.2.11", "192.0.2.12", "127.0.0.1"):
        name = x509.IPAddress(ipaddress.ip_address(address))
        verifier.build_server_verifier(name).verify(certificate, [])
    verifier.build_server_verifier(x509.DNSName("lb2")).verify(certificate, [])


def test_it_is_made_once_and_again_only_when_its_names_change(tmp_path: Path) -> None:
    first = pem_for(plan(tmp_path), {})
    assert pem_for(plan(tmp_path), {}) == first
    other = pem_for(plan(tmp_path, virtual_address={"address": "192.0.2.99"}), {})
    assert other != first
    (tmp_path / "ca" / "ca.pem").unlink()
    assert pem_for(plan(tmp_path, virtual_address={"address": "192.0.2.99"}), {}) != other, (
        "a new CA, a new certificate"
    )


def test_a_damaged_certificate_is_made_again(tmp_path: Path) -> None:
    pem_for(plan(tmp_path), {})
    (tmp_path / "ca" / "lab.pem").write_text("nothing")
    assert "BEGIN CERTIFICATE" in pem_for(plan(tmp_path), {})


def test_private_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    pem_for(plan(tmp_path), {})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert (modes["ca.key"], modes["lab.pem"], modes["ca.pem"]) == (0o600, 0o600, 0o644)


def supplied(chain: Path) -> dict[str, Any]:
    return {"certificate": "supplied", "chain": str(chain), "key_variable": "vault_tls_key", "trusted_by": str(chain)}


def test_a_supplied_certificate_is_chain_and_key(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_text("CHAIN\n\n")
    pem = pem_for(plan(tmp_path, tls=supplied(chain)), {"vault_tls_key": "-----BEGIN PRIVATE KEY-----\nx\n"})
    assert pem == "CHAIN\n-----BEGIN PRIVATE KEY-----\nx\n"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    with pytest.raises(RenderError, match=r"service_tls\.chain .*chain\.pem: No such file"):
        pem_for(plan(tmp_path, tls=supplied(chain)), {"vault_tls_key": "-----BEGIN PRIVATE KEY-----"})
    chain.write_text("CHAIN")
    for variables in ({}, {"vault_tls_key": "a password"}):
        with pytest.raises(RenderError, match="vault_tls_key, which holds no private key") as caught:
            pem_for(plan(tmp_path, tls=supplied(chain)), variables)
        assert "a password" not in str(caught.value)
