"""One node: its files, its start, its stop, and a way in."""

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackserve.lab import bases, cgroups, disks
from rackserve.lab.commands import clean_environment, run
from rackserve.lab.errors import LabError, RefusedError
from rackserve.lab.inherit import PackageIndexes, pip_conf, uv_toml
from rackserve.lab.inventory import NodeSpec
from rackserve.lab.settings import ADMIN_USER, Settings
from rackserve.lab.state import NodeRecord, remove_tree, save_record

SSH_DEADLINE_SECONDS = 60.0
STOP_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Surroundings:
    """What every new node is told about its world."""

    hosts: Mapping[str, str]  # node name -> address
    resolv_conf: str
    indexes: PackageIndexes
    proxies: Mapping[str, str]
    mtu: int


def ssh_key(settings: Settings) -> Path:
    return settings.state / "ssh" / "id_ed25519"


def ensure_ssh_key(settings: Settings) -> None:
    key = ssh_key(settings)
    if key.exists() and key.with_suffix(".pub").exists():
        return
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rackserve lab", "-f", key])


def ssh_command(settings: Settings, address: str, *remote: str) -> list[str]:
    """An ssh call that depends on nobody's personal ssh configuration."""
    options = {
        "IdentityFile": str(ssh_key(settings)),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(settings.state / "ssh" / "known_hosts"),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "5",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *flags, f"{ADMIN_USER}@{address}", *remote]


def _network_file(settings: Settings, spec: NodeSpec, mtu: int) -> str:
    return (
        "# The rack lab's cable to the host.\n"
        "[Match]\nName=host0\n\n"
        f"[Link]\nMTUBytes={mtu}\n\n"
        f"[Network]\nAddress={spec.address}/{settings.network.prefixlen}\nGateway={settings.gateway}\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )


def _hosts_file(spec: NodeSpec, hosts: Mapping[str, str]) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {name}" for name, address in sorted({**hosts, spec.name: spec.address}.items())]
    return "\n".join(lines) + "\n"


def _write_files(settings: Settings, spec: NodeSpec, surroundings: Surroundings) -> str:
    """Write what makes this node itself; return its public host key."""
    root = settings.node_directory(spec.name) / "root"
    files = {
        "etc/hostname": f"{spec.name}\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/hosts": _hosts_file(spec, surroundings.hosts),
        "etc/resolv.conf": surroundings.resolv_conf,
        "etc/systemd/network/10-lab.network": _network_file(settings, spec, surroundings.mtu),
        "etc/pip.conf": pip_conf(surroundings.indexes),
        "etc/uv/uv.toml": uv_toml(surroundings.indexes),
    }
    if surroundings.indexes.constraints:
        files["etc/pip-constraints.txt"] = surroundings.indexes.constraints
    if surroundings.proxies:
        # Logins read the first, services the second.
        files["etc/environment"] = "".join(f'{name}="{value}"\n' for name, value in surroundings.proxies.items())
        assignments = " ".join(f'"{name}={value}"' for name, value in surroundings.proxies.items())
        files["etc/systemd/system.conf.d/proxy.conf"] = f"[Manager]\nDefaultEnvironment={assignments}\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    key.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{spec.name}", "-f", key])
    authorized = root / "home" / ADMIN_USER / ".ssh" / "authorized_keys"
    authorized.write_text(ssh_key(settings).with_suffix(".pub").read_text())
    authorized.chmod(0o600)
    owner = authorized.parent.stat()
    os.chown(authorized, owner.st_uid, owner.st_gid)
    kind, body, *_ = key.with_suffix(".pub").read_text().split()
    return f"{kind} {body}"


def create(settings: Settings, spec: NodeSpec, base: Path, inventory: str, surroundings: Surroundings) -> None:
    """Make the node's disk and files. The record comes last: it says that all before it is complete."""
    disks.make(settings, spec.name, spec.disk_gib, bases.archives_of(settings.cache, spec.os))
    disks.mount(settings, spec.name, base)
    host_key = _write_files(settings, spec, surroundings)
    save_record(settings, NodeRecord(spec, inventory, str(base), host_key))


def nspawn_command(settings: Settings, node: str, bound: Sequence[Path]) -> list[str]:
    directory = settings.node_directory(node)
    return [
        "systemd-nspawn", "--quiet", "--boot",
        "--register=no", "--keep-unit",  # there may be no machined here, nor a systemd that could own a unit
        f"--machine={settings.machine(node)}", f"--hostname={node}", f"--directory={directory / 'root'}",
        f"--network-bridge={settings.bridge}",
        # The node's own files say these; nspawn would write over them at each start.
        "--resolv-conf=off", "--timezone=off", "--link-journal=no",
        "--console=pipe",
        f"--bind={settings.cache / 'uv'}:/var/cache/uv",
        *(f"--bind-ro={path}" for path in bound),
    ]  # fmt: skip


# Joins the node's control groups, runs nspawn in them, and runs it again when the node rebooted: with --keep-unit
# nspawn leaves that to its caller, with code 133. The files of the groups come first, the command after "--".
_KEEPER = """
files=
while [ "$1" != -- ]; do files="$files $1"; shift; done
shift
for file in $files; do
  mkdir -p "${file%/*}/keeper" && echo $$ >"${file%/*}/keeper/cgroup.procs" || exit 1
done
while :; do
  (for file in $files; do sh -c 'echo $PPID' >"$file" || exit 1; done; exec "$@")
  [ $? = 133 ] || exit
done
"""


def start(settings: Settings, record: NodeRecord, bound: Sequence[Path]) -> None:
    """Boot the node; returns at once."""
    name = record.spec.name
    if not Path(record.base).is_dir():
        raise RefusedError(
            f"{name}: its base image {record.base} is gone, so its disk is of no use. "
            f"Remove it with `scripts/lab down {name}` and start it again."
        )
    disks.mount(settings, name, Path(record.base))
    (settings.cache / "uv").mkdir(parents=True, exist_ok=True)
    files = [str(path) for path in cgroups.create(settings, name)]
    command = ["sh", "-c", _KEEPER, "sh", *files, "--", *nspawn_command(settings, name, bound)]
    with (settings.node_directory(name) / "console.log").open("ab") as console:
        # setsid --fork: no terminal, no parent; the node outlives this command and every signal to its group.
        subprocess.run(
            ["setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            cwd="/",
            check=True,
        )


def _console_tail(settings: Settings, node: str) -> str:
    console = settings.node_directory(node) / "console.log"
    lines = (
        [line for line in console.read_text(errors="replace").splitlines() if line.strip()] if console.exists() else []
    )
    return " | ".join(lines[-3:]) or "no output"


def wait_for_login(settings: Settings, spec: NodeSpec, deadline_seconds: float = SSH_DEADLINE_SECONDS) -> float:
    """Wait until the administrator can log in and become root; return the seconds it took."""
    started = time.monotonic()
    command = ssh_command(settings, spec.address, "sudo", "-n", "true")
    while True:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
        waited = time.monotonic() - started
        if tried.returncode == 0:
            return waited
        running = cgroups.processes(settings, spec.name)
        if waited > 2 and not running.everything:
            raise LabError(f"{spec.name} did not boot: {_console_tail(settings, spec.name)}")
        if waited > deadline_seconds:
            said = (tried.stderr.strip() or "no message").splitlines()[-1]
            raise LabError(
                f"{spec.name}: no login at {spec.address} after {waited:.0f} s. ssh says: {said}. "
                f"The console says: {_console_tail(settings, spec.name)}. Look with `scripts/lab logs {spec.name}`."
            )
        time.sleep(0.1)


def answers(address: str, seconds: float = 1.0) -> bool:
    """An ssh server speaks at the address."""
    try:
        with socket.create_connection((address, 22), timeout=seconds) as connection:
            connection.settimeout(seconds)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def is_running(settings: Settings, node: str) -> bool:
    """Booted, with its supervisor. A PID 1 whose nspawn was killed is a leftover, not a running node."""
    found = cgroups.processes(settings, node)
    return found.leader is not None and found.supervisor is not None


def inside(leader: int, *command: str) -> list[str]:
    """A command that runs as root in the node whose PID 1 this is; needs no network and no ssh in the node."""
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    terminal = f"TERM={os.environ.get('TERM', 'dumb')}"
    enter = [
        "nsenter",
        "--target",
        str(leader),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--root",
        "--wd",
    ]
    return [*enter, "--", "env", "-i", path, "LANG=C.UTF-8", "HOME=/root", terminal, *command]


def leader_of(settings: Settings, node: str) -> int:
    leader = cgroups.processes(settings, node).leader
    if leader is None:
        raise LabError(f"{node} does not run. Start it with `scripts/lab up`.")
    return leader


def _forget_nspawn(settings: Settings, node: str) -> None:
    """Remove what a killed nspawn leaves in /run: its lock on the directory, and its way to pass mounts in."""
    run_directory = Path("/run/systemd/nspawn")
    root = settings.node_directory(node) / "root"
    if root.exists():
        place = root.stat()
        (run_directory / "locks" / f"inode-{place.st_dev}:{place.st_ino}").unlink(missing_ok=True)
    propagate = run_directory / "propagate" / settings.machine(node)
    if propagate.is_dir():
        propagate.rmdir()


def forget_nspawn_directories() -> None:
    """Remove the directories in /run that nspawn made, where they are empty. For when the last node is gone."""
    for name in ("nspawn/locks", "nspawn/propagate", "nspawn", ""):
        try:
            (Path("/run/systemd") / name).rmdir()
        except OSError:  # absent, or used by somebody
            continue


def stop(settings: Settings, node: str, *, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
    """Power the node off. Its disk stays."""
    cgroups.stop(settings, node, grace_seconds=grace_seconds)
    _forget_nspawn(settings, node)


def remove(settings: Settings, node: str, system: str | None) -> None:
    """Remove the node and its disk; keep the packages it downloaded when its distribution is known."""
    stop(settings, node)
    if system:
        disks.harvest(settings, node, bases.archives_of(settings.cache, system))
    disks.unmount(settings, node)
    remove_tree(settings.node_directory(node))


def journal_command(settings: Settings, node: str, arguments: Sequence[str]) -> list[str]:
    """What shows the node's log: its journal while it runs, else what its console said last."""
    leader = cgroups.processes(settings, node).leader
    if leader is not None:
        return inside(leader, "journalctl", "--no-pager", *(arguments or ["--boot"]))
    return ["tail", "-n", "200", str(settings.node_directory(node) / "console.log")]
