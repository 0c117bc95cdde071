"""The base image of a distribution: a directory made by debootstrap once, read-only below every node's disk.

Named by a digest of its recipe (packages, mirrors, certificates, set-up), so a changed recipe makes a new one and nodes
that stand on the old one keep it.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from rackserve.lab import disks
from rackserve.lab.commands import clean_environment, run, tied
from rackserve.lab.errors import LabError, RefusedError
from rackserve.lab.inherit import Mirrors
from rackserve.lab.settings import ADMIN_USER

DISTRIBUTIONS = {"debian-12": "bookworm", "debian-13": "trixie"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # the same path in Debian's own package
BUILD_DEADLINE_SECONDS = 1500.0
PROGRESS_SECONDS = 20.0
BASE_GIB = 1.0  # what one base and its downloaded packages take, with room

# What a freshly installed Debian server with an ssh login and Python has; roles install the rest.
_PACKAGES = (
    "acl", "ca-certificates", "curl", "dbus", "debian-archive-keyring", "gnupg", "iproute2", "iputils-ping",
    "kmod", "less", "netbase", "openssh-server", "procps", "python3", "python3-apt", "rsync", "sudo",
    "systemd", "systemd-sysv",
)  # fmt: skip

# Runs inside the base. Reasons are beside the lines.
_SETUP = f"""\
set -eu
export DEBIAN_FRONTEND=noninteractive
update-ca-certificates >/dev/null
useradd --create-home --shell /bin/bash {ADMIN_USER}
echo '{ADMIN_USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{ADMIN_USER}
chmod 0440 /etc/sudoers.d/{ADMIN_USER}
install -d -m 0700 -o {ADMIN_USER} -g {ADMIN_USER} /home/{ADMIN_USER}/.ssh
# Every node gets its own at its creation.
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
systemctl enable systemd-networkd.service ssh.service
# They would take the package lock at a random moment of a test.
systemctl mask apt-daily.timer apt-daily-upgrade.timer
apt-get update
"""
_APT_CONF = """\
// Downloaded packages are collected for later nodes.
APT::Keep-Downloaded-Packages "true";
Binary::apt::APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
"""


@dataclass(frozen=True)
class Recipe:
    os: str
    mirrors: Mirrors
    certificates: Mapping[str, str]
    proxies: Mapping[str, str]

    @property
    def suite(self) -> str:
        return DISTRIBUTIONS[self.os]

    def sources(self) -> str:
        archive = f"{self.suite} {self.suite}-updates"
        stanza = f"Types: deb\nURIs: {{}}\nSuites: {{}}\nComponents: main\nSigned-By: {KEYRING}\n"
        parts = [
            stanza.format(self.mirrors.archive, archive),
            stanza.format(self.mirrors.security, f"{self.suite}-security"),
        ]
        return "\n".join(parts)

    def apt_conf(self) -> str:
        proxies = [
            f'Acquire::{name[:-6].lower()}::Proxy "{url}";\n'
            for name, url in self.proxies.items()
            if _is_apt_proxy(name)
        ]
        return _APT_CONF + "".join(proxies)

    @property
    def name(self) -> str:
        parts = [self.suite, self.sources(), self.apt_conf(), sorted(self.certificates), _PACKAGES, _SETUP]
        return f"{self.os}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def _is_apt_proxy(name: str) -> bool:
    return name.lower() in ("http_proxy", "https_proxy")


def path_of(cache: Path, recipe: Recipe) -> Path:
    return (cache / "bases").resolve() / recipe.name


def archives_of(cache: Path, system: str) -> Path:
    """Package archives that nodes of this distribution have downloaded."""
    return cache / "archives" / system


def _debootstrap_script(suite: str) -> Path:
    script = Path("/usr/share/debootstrap/scripts") / suite
    if not script.exists():
        # All recent suites share one script; an older debootstrap lacks only the name.
        script = script.with_name("sid")
    if not script.exists():
        raise RefusedError(
            "debootstrap has no script for Debian in /usr/share/debootstrap/scripts. Install package debootstrap."
        )
    return script


def check(recipes: Sequence[Recipe]) -> None:
    """Refuse before anything is made when a base could not be built."""
    if recipes and not KEYRING.exists():
        # debootstrap would only warn on some systems, and then trust whatever the mirror sends.
        raise RefusedError(
            f"{KEYRING} is missing, so Debian's packages cannot be verified. Install debian-archive-keyring."
        )
    for recipe in recipes:
        _debootstrap_script(recipe.suite)


def _logged(arguments: Sequence[str], log: Path, deadline_seconds: float) -> None:
    with log.open("ab") as file:
        file.write(f"+ {shlex.join(arguments)}\n".encode())
        file.flush()
        try:
            code = subprocess.run(
                tied(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Without syncing each file to disk: the directory is renamed into place only when complete.
                env=clean_environment({"DPKG_FORCE": "unsafe-io", "TMPDIR": "/tmp"}),
                timeout=deadline_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise LabError(
                f"`{arguments[0]}` took longer than {deadline_seconds:g} s; its output is in {log}."
            ) from None
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise LabError(
            f"`{arguments[0]}` failed with code {code}: {' | '.join(lines[-3:])}. All of its output is in {log}."
        )


def _build(cache: Path, recipe: Recipe, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    bases = cache / "bases"
    target = path_of(cache, recipe)
    candidate = target.with_name(f".building-{recipe.name}")
    log = bases / f"{recipe.os}.log"
    log.unlink(missing_ok=True)
    downloads = cache / "debootstrap" / recipe.os
    downloads.mkdir(parents=True, exist_ok=True)
    script = str(_debootstrap_script(recipe.suite))
    _logged(
        [
            "debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", f"--keyring={KEYRING}",
            f"--cache-dir={downloads}", recipe.suite, str(candidate), recipe.mirrors.archive, script,
        ],
        log,
        BUILD_DEADLINE_SECONDS,
    )  # fmt: skip
    say(f"{recipe.os}: packages unpacked after {time.monotonic() - started:.0f} s, setting it up")
    (candidate / "etc/apt/sources.list").unlink(missing_ok=True)
    (candidate / "etc/apt/sources.list.d/debian.sources").write_text(recipe.sources())
    (candidate / "etc/apt/apt.conf.d/90rackserve-lab").write_text(recipe.apt_conf())
    # The name servers of the build; each node gets the current ones.
    shutil.copyfile("/etc/resolv.conf", candidate / "etc/resolv.conf")
    for digest, text in recipe.certificates.items():
        (candidate / f"usr/local/share/ca-certificates/host-{digest[:12]}.crt").write_text(text)
    _logged(["chroot", str(candidate), "/bin/sh", "-c", _SETUP], log, BUILD_DEADLINE_SECONDS)
    for archive in (candidate / disks.ARCHIVES).glob("*.deb"):
        archive.unlink()
    candidate.rename(target)
    size = run(["du", "-sm", target]).stdout.split()[0]
    say(f"{recipe.os}: base ready after {time.monotonic() - started:.0f} s ({size} MB, {target})")


def has_unfinished(cache: Path) -> bool:
    return any((cache / "bases").glob(".building-*"))


def remove_unfinished(cache: Path) -> None:
    """Remove what a killed build left. The caller holds the cache's lock, so no build is under way."""
    for entry in (cache / "bases").glob(".building-*"):
        shutil.rmtree(entry)


def remove_unused(cache: Path, recipes: Sequence[Recipe], in_use: Collection[str]) -> None:
    """Remove bases of older recipes for the same distributions, unless a node stands on them."""
    used = {*in_use, *disks.lower_layers_in_use()}
    kept = {recipe.name for recipe in recipes}
    systems = tuple(f"{recipe.os}-" for recipe in recipes)
    for entry in (cache / "bases").iterdir():
        if entry.is_dir() and entry.name.startswith(systems) and entry.name not in kept and str(entry) not in used:
            shutil.rmtree(entry)


def missing(cache: Path, recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe for recipe in recipes if not path_of(cache, recipe).is_dir()]


def ensure(cache: Path, recipes: Sequence[Recipe], in_use: Collection[str], say: Callable[[str], None]) -> None:
    """Build what is missing, all at the same time. The caller holds the cache's lock."""
    wanted = missing(cache, recipes)
    if not wanted:
        return
    (cache / "bases").mkdir(parents=True, exist_ok=True)
    remove_unfinished(cache)
    remove_unused(cache, recipes, in_use)
    say(f"building {' and '.join(recipe.os for recipe in wanted)} with debootstrap, once: about two minutes")
    with ThreadPoolExecutor(len(wanted)) as pool:
        jobs = {pool.submit(_build, cache, recipe, say): recipe for recipe in wanted}
        pending = set(jobs)
        while pending:
            pending = wait(pending, timeout=PROGRESS_SECONDS, return_when=FIRST_COMPLETED).not_done
            for recipe in sorted((jobs[job] for job in pending), key=lambda recipe: recipe.os):
                say(f"{recipe.os}: {_last_line(cache / 'bases' / f'{recipe.os}.log')}")
    for job in jobs:
        job.result()


def _last_line(log: Path) -> str:
    """How far a build is, in its own words."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line[:100] for line in reversed(lines) if line.strip()), "starting")
