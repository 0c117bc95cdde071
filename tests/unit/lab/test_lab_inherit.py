"""What nodes take over from the machine they run on."""

import base64
import configparser
import tomllib
from pathlib import Path

import pytest
from rackserve.lab.errors import RefusedError
from rackserve.lab.inherit import (
    Mirrors,
    debian_mirrors,
    extra_certificates,
    outermost,
    package_indexes,
    pip_conf,
    proxy_environment,
    resolv_conf,
    uv_toml,
)

ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb http://other.example/tools stable main
"""
STANZAS = """\
Types: deb
# URIs: http://old.example/debian
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian-security
Suites: bookworm-security

Types: deb
URIs:
  http://mirror.example/debian-security
Suites: bookworm-security
"""


@pytest.mark.parametrize("text", [ONE_LINE, STANZAS])
def test_mirrors_are_read_from_both_formats_of_apt(text: str) -> None:
    assert debian_mirrors([text], {}) == Mirrors(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )


def test_a_machine_without_debian_mirrors_is_told_which_variable_to_set() -> None:
    ubuntu = "deb http://mirror.example/ubuntu noble main\n"
    with pytest.raises(RefusedError, match=r"name no Debian archive.*Set RACKSERVE_LAB_DEBIAN_MIRROR"):
        debian_mirrors([ubuntu], {})
    chosen = {"RACKSERVE_LAB_DEBIAN_MIRROR": "http://m.example/debian/"}
    with pytest.raises(RefusedError, match=r"name no Debian security archive.*Set RACKSERVE_LAB_SECURITY_MIRROR"):
        debian_mirrors([ubuntu], chosen)
    chosen["RACKSERVE_LAB_SECURITY_MIRROR"] = "http://m.example/security"
    assert debian_mirrors([ubuntu], chosen) == Mirrors("http://m.example/debian", "http://m.example/security")


def _pem(content: bytes, width: int = 64) -> str:
    body = base64.b64encode(content).decode()
    lines = "\n".join(body[start : start + width] for start in range(0, len(body), width))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def test_certificates_beyond_the_distributions_own_are_taken_from_bundle_and_directory(tmp_path: Path) -> None:
    shipped, bundled, own = (bytes([number]) * 90 for number in (1, 2, 3))
    bundle, local, distribution = tmp_path / "bundle.crt", tmp_path / "local", tmp_path / "shipped"
    local.mkdir()
    distribution.mkdir()
    # The same certificate in another line width is the same certificate.
    (distribution / "a.crt").write_text(_pem(shipped, width=76))
    bundle.write_text(_pem(shipped) + "# comment\n" + _pem(bundled))
    (local / "mine.crt").write_text(_pem(own))
    found = extra_certificates(bundle, local, distribution)
    assert sorted(found.values()) == sorted([_pem(bundled), _pem(own)])


def test_a_name_server_on_the_loopback_is_replaced_by_the_one_behind_it(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    real.write_text("nameserver 192.0.2.53\n")
    assert resolv_conf([stub, real]) == "nameserver 192.0.2.53\n"
    with pytest.raises(RefusedError, match="names no server outside this machine's loopback"):
        resolv_conf([stub, tmp_path / "absent"])


def test_only_proxy_variables_with_a_value_are_inherited() -> None:
    environment = {"HTTP_PROXY": "http://p.example:3128", "no_proxy": "localhost", "https_proxy": "", "HOME": "/root"}
    assert proxy_environment(environment) == {"HTTP_PROXY": "http://p.example:3128", "no_proxy": "localhost"}


def _index(tmp_path: Path) -> Path:
    simple = tmp_path / "index" / "simple"
    (simple / "wheel").mkdir(parents=True)
    (tmp_path / "index" / "files").mkdir()
    (simple / "wheel" / "index.html").write_text('<a href="../../files/wheel-1.whl#sha256=00">wheel-1.whl</a>')
    return simple


def test_a_local_index_is_bound_together_with_the_files_its_pages_point_to(tmp_path: Path) -> None:
    simple = _index(tmp_path)
    indexes = package_indexes(f"global.extra-index-url='file://{simple} https://index.example/simple'\n")
    assert indexes.extra_index_urls == (f"file://{simple}", "https://index.example/simple")
    assert indexes.bound == (tmp_path / "index" / "files", simple)


def test_the_environment_overrides_the_users_file_and_that_the_machines(tmp_path: Path) -> None:
    listed = "global.index-url='https://a.example'\nuser.index-url='https://b.example'\n"
    assert package_indexes(listed).index_url == "https://b.example"
    assert package_indexes(listed + ":env:.index-url='https://c.example'\n").index_url == "https://c.example"


def test_nested_directories_are_bound_once() -> None:
    paths = [Path("/opt/a/b"), Path("/opt/a"), Path("/opt/ab"), Path("/opt/a")]
    assert outermost(paths) == (Path("/opt/a"), Path("/opt/ab"))


def test_pip_and_uv_are_told_the_same(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch<=9\n")
    links = tmp_path / "wheels"
    links.mkdir()
    indexes = package_indexes(
        "global.cert='/some/bundle.crt'\n"
        f"global.constraint='{constraints}'\n"
        "global.index-url='https://index.example/simple'\n"
        "global.extra-index-url='https://more.example/simple\nfile:///nowhere/simple'\n".replace("\nfile", " file")
        + f":env:.find-links='{links}'\n"
    )
    pip = configparser.ConfigParser(interpolation=None)
    pip.read_string(pip_conf(indexes))
    section = pip["global"]
    assert section["index-url"] == "https://index.example/simple"
    assert section["extra-index-url"].split() == ["https://more.example/simple", "file:///nowhere/simple"]
    assert section["find-links"].split() == [str(links)]
    assert section["cert"] == "/etc/ssl/certs/ca-certificates.crt"
    assert section["constraint"] == "/etc/pip-constraints.txt"
    assert indexes.constraints == "torch<=9\n"

    uv = tomllib.loads(uv_toml(indexes))
    assert uv["index-url"] == "https://index.example/simple"
    assert uv["extra-index-url"] == ["https://more.example/simple", "file:///nowhere/simple"]
    assert uv["find-links"] == [str(links)]
    assert uv["system-certs"] is True
    assert uv["cache-dir"] == "/var/cache/uv"
    assert not [key for key in uv if "constraint" in key]


def test_a_machine_without_pip_configuration_gives_none_to_its_nodes() -> None:
    indexes = package_indexes("")
    assert indexes.bound == ()
    pip = configparser.ConfigParser()
    pip.read_string(pip_conf(indexes))
    assert dict(pip["global"]) == {}
    assert "index-url" not in tomllib.loads(uv_toml(indexes))
