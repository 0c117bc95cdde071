"""Can this machine run the lab? Every check looks and changes nothing; the first "no" is told in one sentence."""

import os
import shutil
from pathlib import Path

from rackserve.lab.commands import run
from rackserve.lab.errors import LabError, RefusedError
from rackserve.lab.settings import Settings

# Program -> the Debian package that has it.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "losetup": "mount",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
}
NODE_GIB = 0.5  # what a node takes at once; its image grows as it is used


def check_root() -> None:
    if os.geteuid() != 0:
        raise RefusedError(
            f"the lab needs root for mounts and bridges, and this runs as user {os.geteuid()}. Use sudo."
        )


def check_programs() -> None:
    search = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    packages = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=search)}
    missing = [program for program in PROGRAMS if not shutil.which(program, path=search)]
    if missing:
        raise RefusedError(
            f"this machine lacks {', '.join(missing)}. Run scripts/bootstrap, "
            f"or `apt-get install {' '.join(sorted(packages))}`."
        )


# Tried in a network namespace that ends with the command, so nothing of it remains.
_NETWORK_TRIAL = """\
set -e
ip link add trial0 type bridge || { echo bridges; exit 1; }
ip link add trial1 type veth peer name trial2 || { echo 'veth interfaces'; exit 1; }
rules='table inet t { chain c { type nat hook postrouting priority srcnat; oifname "x" masquerade; }; }'
printf '%s' "$rules" | nft -f - || { echo 'NAT in nftables'; exit 1; }
"""


def check_kernel() -> None:
    """The file systems, loop devices, and what the network needs."""
    for system in ("overlay", "ext4"):
        # Mounting loads the module where there is one; asking the list alone would refuse a machine that could do it.
        if system not in Path("/proc/filesystems").read_text().split():
            modprobe = shutil.which("modprobe", path="/usr/sbin:/sbin")
            if not modprobe or run([modprobe, system], accept=range(256)).returncode:
                raise RefusedError(
                    f"this kernel ({os.uname().release}) has no {system} file system, which the nodes' disks need."
                )
    if not Path("/dev/loop-control").exists():
        raise RefusedError("this machine has no loop devices (/dev/loop-control is missing). Load kernel module loop.")
    try:
        trial = run(["unshare", "--net", "--", "sh", "-c", _NETWORK_TRIAL], accept=range(256))
    except LabError as error:
        raise RefusedError(str(error)) from None
    if trial.returncode:
        lacking = (trial.stdout.strip() or trial.stderr.strip()).splitlines()[-1:]
        raise RefusedError(
            f"this kernel ({os.uname().release}) lacks {''.join(lacking)}, which the lab's network needs."
        )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def check_space(settings: Settings, *, new_bases_gib: float, new_nodes: int) -> None:
    """Room for what is made now, on the file systems of the caches and of the nodes."""
    wanted: dict[int, tuple[Path, float]] = {}
    for path, gib in ((settings.cache, new_bases_gib), (settings.state, new_nodes * NODE_GIB)):
        device = _existing(path).stat().st_dev
        place, sum_gib = wanted.get(device, (path, 0.0))
        wanted[device] = (place, sum_gib + gib)
    for path, gib in wanted.values():
        free = shutil.disk_usage(_existing(path)).free / 1024**3
        if gib and free < gib:
            raise RefusedError(
                f"{path} has {free:.1f} GiB free, this needs {gib:.1f} GiB. Free some, or point "
                "RACKSERVE_LAB_STATE and RACKSERVE_LAB_CACHE to a larger disk."
            )


def check() -> None:
    check_root()
    check_programs()
    check_kernel()
