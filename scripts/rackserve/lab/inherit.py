"""What a node takes over from this machine, so that it can reach and trust what this machine reaches and trusts.

Package mirrors, extra CA certificates, name servers, proxies, and the pip configuration (the same for uv). All of it is
read here and returned as values; nothing in this file changes anything.
"""

import base64
import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rackserve.lab.commands import PROXY_VARIABLES
from rackserve.lab.errors import RefusedError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s+(.+?)\s+-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's packages come from: the archive itself and its security updates."""

    archive: str
    security: str


def _apt_entries(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    """(URI, suite) of every active binary source, in both of apt's formats."""
    for text in texts:
        for line in text.splitlines():
            if match := re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line.strip()):
                yield match[1], match[2]
        for stanza in re.split(r"\n\s*\n", text):
            # A comment line inside a field does not end it.
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            fields = re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", "\n".join(lines), re.MULTILINE)
            values = {name.lower(): value.split() for name, value in fields}
            if "deb" in values.get("types", []) and values.get("enabled", ["yes"])[0].lower() not in (
                "no",
                "false",
                "0",
            ):
                yield from ((uri, suite) for uri in values.get("uris", []) for suite in values.get("suites", []))


def debian_mirrors(texts: Iterable[str], environment: Mapping[str, str] = os.environ) -> Mirrors:
    """The Debian mirrors among this machine's apt sources; two variables say it where the machine is not Debian."""
    archive = environment.get("RACKSERVE_LAB_DEBIAN_MIRROR", "")
    security = environment.get("RACKSERVE_LAB_SECURITY_MIRROR", "")
    for uri, suite in _apt_entries(texts):
        path = urlsplit(uri).path.rstrip("/")
        if path.endswith("/debian-security") or suite.endswith(("-security", "/updates")):
            security = security or uri
        elif path.endswith("/debian"):
            archive = archive or uri
    if not archive or not security:
        lacking = "archive" if not archive else "security archive"
        variable = "RACKSERVE_LAB_DEBIAN_MIRROR" if not archive else "RACKSERVE_LAB_SECURITY_MIRROR"
        raise RefusedError(
            f"this machine's apt sources (/etc/apt/sources.list*) name no Debian {lacking}, and the nodes are Debian. "
            f"Set {variable} to the URL of one."
        )
    return Mirrors(archive.rstrip("/"), security.rstrip("/"))


def apt_source_texts() -> list[str]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [
        file.read_text(errors="replace") for file in files if file.suffix in (".list", ".sources") and file.is_file()
    ]


def _certificates(text: str) -> dict[str, str]:
    """Digest -> certificate in PEM."""
    found = {}
    for match in _PEM.finditer(text):
        body = "".join(match[1].split())
        digest = hashlib.sha256(base64.b64decode(body)).hexdigest()
        lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
        found[digest] = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    return found


def extra_certificates(
    bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt"),
    own: Path = Path("/usr/local/share/ca-certificates"),
    distribution: Path = Path("/usr/share/ca-certificates"),
) -> dict[str, str]:
    """Digest -> PEM of what this machine trusts beyond its distribution's own list."""
    shipped: dict[str, str] = {}
    for file in distribution.rglob("*.crt"):
        shipped |= _certificates(file.read_text(errors="replace"))
    trusted: dict[str, str] = {}
    for file in [bundle, *own.rglob("*.crt")]:
        if file.is_file():
            trusted |= _certificates(file.read_text(errors="replace"))
    return {digest: trusted[digest] for digest in sorted(trusted) if digest not in shipped}


_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def resolv_conf(paths: Iterable[Path] = _RESOLV_CONF) -> str:
    """This machine's name servers. A resolver on its loopback cannot be reached from a node, so the one behind it."""
    for path in paths:
        if not path.is_file():
            continue
        text = path.read_text()
        servers = re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE)
        if servers and not all(server.startswith("127.") or server == "::1" for server in servers):
            return text
    raise RefusedError(
        "/etc/resolv.conf names no server outside this machine's loopback, so nodes could not resolve names. "
        "Put a reachable nameserver into it."
    )


def proxy_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {name: value for name, value in sorted(environment.items()) if name.lower() in PROXY_VARIABLES and value}


@dataclass(frozen=True)
class PackageIndexes:
    """Where Python packages come from, as pip has it. bound: directories of this machine that nodes see read-only."""

    index_url: str | None
    extra_index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    certificate: str | None
    constraints: str
    bound: tuple[Path, ...]


def _local_path(place: str) -> Path | None:
    """The directory behind a file: URL or a plain path, None for anything on the network."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None


def _directories_of(place: str) -> set[Path]:
    """What must be visible for a local index to work: itself, and where its pages' links lead to."""
    root = _local_path(place)
    if root is None or not root.exists():
        return set()
    directories = {root if root.is_dir() else root.parent}
    pages = [root] if root.is_file() else sorted(root.glob("*/index.html"))[:20]
    for page in pages:
        for link in re.findall(r'href="([^"#]+)', page.read_text(errors="replace"))[:3]:
            if "://" not in link:
                target = Path(os.path.normpath(page.parent / unquote(link))).parent
                directories |= {target} if target.is_dir() else set()
    return directories


def outermost(directories: Iterable[Path]) -> tuple[Path, ...]:
    """Without those that lie inside another of them."""
    unique = set(directories)
    return tuple(
        sorted(path for path in unique if not any(path != other and path.is_relative_to(other) for other in unique))
    )


def package_indexes(pip_config_list: str) -> PackageIndexes:
    """Read the output of ``pip config list``."""
    ranked: dict[str, tuple[int, str]] = {}
    order = {"global": 0, "user": 1, "site": 2, "install": 3, ":env:": 4}
    for line in pip_config_list.splitlines():
        name, separator, quoted = line.partition("=")
        scope, _, option = name.rpartition(".")
        if separator and scope in order:
            value = " ".join(shlex.split(quoted))
            if option not in ranked or ranked[option][0] <= order[scope]:
                ranked[option] = (order[scope], value)
    values = {option: value for option, (_, value) in ranked.items()}
    # pip treats an empty setting as unset
    index = values.get("index-url") or None
    extra = tuple(values.get("extra-index-url", "").split())
    links = tuple(values.get("find-links", "").split())
    constraints = [Path(name) for name in values.get("constraint", "").split() if _local_path(name)]
    places = [*([index] if index else []), *extra, *links]
    return PackageIndexes(
        index_url=index,
        extra_index_urls=extra,
        find_links=links,
        certificate=values.get("cert") or None,
        constraints="".join(path.read_text() for path in constraints if path.is_file()),
        bound=outermost(directory for place in places for directory in _directories_of(place)),
    )


def pip_conf(indexes: PackageIndexes) -> str:
    lines = ["# Made by the rack lab from the configuration of the machine it runs on.", "[global]"]
    if indexes.index_url:
        lines.append(f"index-url = {indexes.index_url}")
    for name, values in (("extra-index-url", indexes.extra_index_urls), ("find-links", indexes.find_links)):
        if values:
            lines += [f"{name} =", *(f"    {value}" for value in values)]
    if indexes.certificate:
        lines.append("cert = /etc/ssl/certs/ca-certificates.crt")
    if indexes.constraints:
        lines.append("constraint = /etc/pip-constraints.txt")
    return "\n".join(lines) + "\n"


def uv_toml(indexes: PackageIndexes) -> str:
    """The same for uv. Constraints are left out: uv refuses unpinned ones when hashes are required, as our locks do."""

    def array(values: Iterable[str]) -> str:
        return "[" + ", ".join(f'"{value}"' for value in values) + "]"

    lines = [
        "# Made by the rack lab from the configuration of the machine it runs on.",
        'cache-dir = "/var/cache/uv"',
        "# The cache is another file system than the node's disk, so hard links are not possible.",
        'link-mode = "copy"',
        "system-certs = true",
        "# As pip does it: the best version of all indexes, not only of the first that has the package.",
        'index-strategy = "unsafe-best-match"',
    ]
    if indexes.index_url:
        lines.append(f'index-url = "{indexes.index_url}"')
    if indexes.extra_index_urls:
        lines.append(f"extra-index-url = {array(indexes.extra_index_urls)}")
    if indexes.find_links:
        lines.append(f"find-links = {array(indexes.find_links)}")
    return "\n".join(lines) + "\n"
