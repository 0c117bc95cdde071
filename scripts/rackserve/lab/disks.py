"""A node's disk: an ext4 image of fixed size, and on it the writable layer over the distribution's base.

nodes/<name>/disk.ext4   sparse image, so a full disk in a node does not fill the host
nodes/<name>/layer/      the image, mounted; holds the overlay's upper and work directory
nodes/<name>/seed/       hard links to cached package archives, a read-only layer of their own
nodes/<name>/root/       what the node sees as /
"""

import os
import shutil
from pathlib import Path

from rackserve.lab.commands import run
from rackserve.lab.errors import LabError
from rackserve.lab.settings import Settings

ARCHIVES = Path("var/cache/apt/archives")


def mounts_below(directory: Path) -> list[Path]:
    """Mount points at or below directory, the last mounted first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    # Octal escapes (\040) cannot occur: settings refuse such paths.
    points = [Path(line.split(" ")[4]) for line in lines]
    return [point for point in reversed(points) if point.is_relative_to(directory)]


def lower_layers_in_use() -> set[str]:
    """Every directory that some overlay on this machine has as a lower layer."""
    used = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        kind, _, options = line.partition(" - ")[2].split(" ", 2)
        if kind == "overlay":
            for option in options.split(","):
                if option.startswith("lowerdir="):
                    used.update(option.removeprefix("lowerdir=").split(":"))
    return used


def _copy_or_link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def make(settings: Settings, node: str, size_gib: int, archives: Path) -> None:
    """Make the image and the seed layer. An unfinished earlier attempt must have been removed."""
    directory = settings.node_directory(node)
    (directory / "layer").mkdir(parents=True)
    (directory / "root").mkdir()
    seed = directory / "seed" / ARCHIVES
    seed.mkdir(parents=True)
    for archive in archives.glob("*.deb"):
        _copy_or_link(archive, seed / archive.name)
    image = directory / "disk.ext4"
    with image.open("wb") as file:
        file.truncate(size_gib * 1024**3)
    # No reserved blocks: the size an inventory asks for is the size a node can use.
    run(["mkfs.ext4", "-q", "-m", "0", "-L", f"lab-{node}"[:16], image])


def mount(settings: Settings, node: str, base: Path) -> None:
    """Mount image and overlay, each if it is not mounted yet."""
    directory = settings.node_directory(node)
    mounted = set(mounts_below(directory))
    layer, root = directory / "layer", directory / "root"
    if layer not in mounted:
        # noinit_itable: no kernel thread that writes the whole inode table of a sparse file; discard: what a node
        # deletes is given back to the host.
        run(["mount", "-o", "loop,noinit_itable,discard", directory / "disk.ext4", layer])
    if root not in mounted:
        (layer / "upper").mkdir(exist_ok=True)
        (layer / "work").mkdir(exist_ok=True)
        options = f"lowerdir={directory / 'seed'}:{base},upperdir={layer / 'upper'},workdir={layer / 'work'}"
        run(["mount", "-t", "overlay", "-o", options, f"lab-{node}", root])


def _users_of(directory: Path) -> list[str]:
    users = []
    for process in Path("/proc").glob("[0-9]*"):
        for link in ("cwd", "root", "exe"):
            try:
                target = os.readlink(process / link)
            except OSError:
                continue
            if Path(target).is_relative_to(directory):
                users.append(f"{process.name} ({(process / 'comm').read_text().strip()})")
                break
    return users


def unmount(settings: Settings, node: str) -> None:
    """Take every mount of the node away. The loop device goes with its mount."""
    directory = settings.node_directory(node)
    for point in mounts_below(directory):
        try:
            run(["umount", point])
        except LabError as error:
            users = ", ".join(_users_of(directory)) or "none found"
            raise LabError(f"{error} Processes that use {directory}: {users}. End them and call again.") from None


def harvest(settings: Settings, node: str, archives: Path) -> int:
    """Keep the package archives that the node downloaded for later nodes; return how many were new."""
    source = settings.node_directory(node) / "layer" / "upper" / ARCHIVES
    new = 0
    for archive in sorted(source.glob("*.deb")):
        target = archives / archive.name
        if target.exists():
            continue
        archives.mkdir(parents=True, exist_ok=True)
        # Nodes are removed side by side, and often have the same packages.
        candidate = archives / f".{archive.name}.{node}.{os.getpid()}"
        try:
            shutil.copyfile(archive, candidate)
        except FileNotFoundError:  # `apt-get clean` in the node
            continue
        candidate.rename(target)
        new += 1
    return new


def used_mib(settings: Settings, node: str) -> int | None:
    """What the node's writable layer holds, None when it is not mounted."""
    layer = settings.node_directory(node) / "layer"
    if layer not in mounts_below(layer):
        return None
    usage = os.statvfs(layer)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize // 1024**2
