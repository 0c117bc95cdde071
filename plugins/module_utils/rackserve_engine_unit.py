"""What systemd has to know about one engine: its devices, the memory near its GPUs, and whether systemd takes it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

# Every CUDA program opens these; the numbered ones are added per GPU.
SHARED_DEVICES = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "char-nvidia-caps",
    "char-nvidia-nvlink",
)


class UnitProblem(Exception):
    """Something about the node or the unit that makes the engine impossible."""


def gpus_of(system: Path = Path("/")) -> list[tuple[str, int, int]]:
    """(PCI address, device number, NUMA node or -1) in the order of the PCI bus, which is how engines count GPUs."""
    found = []
    for folder in sorted((system / "proc/driver/nvidia/gpus").glob("*")):
        text = (folder / "information").read_text()
        minor = re.search(r"Device Minor:\s*(\d+)", text)
        numa = system / "sys/bus/pci/devices" / folder.name.lower() / "numa_node"
        node = int(numa.read_text()) if numa.exists() else -1
        if minor is None:
            raise UnitProblem(f"{folder}/information names no device number; is the NVIDIA driver loaded?")
        found.append((folder.name, int(minor.group(1)), node))
    return found


def placement(engine: dict[str, Any], system: Path = Path("/")) -> list[str]:
    """Lines of the unit that give an engine its devices and keep its processors and memory beside its GPUs."""
    if engine["device"] == "cpu":
        return ["PrivateDevices=yes"]
    gpus = gpus_of(system)
    wanted = engine["gpus"] or []
    if missing := [gpu for gpu in wanted if gpu >= len(gpus)]:
        raise UnitProblem(
            f"engine {engine['name']} wants GPU {', '.join(map(str, missing))}, but the driver of this node shows "
            f"{len(gpus)} "
            f"({', '.join(address for address, _, _ in gpus) or 'none'}). Check nvidia-smi, or change `gpus` of "
            "the engine"
        )
    lines = ["DevicePolicy=closed"]
    lines += [f"DeviceAllow={device} rw" for device in SHARED_DEVICES]
    lines += [f"DeviceAllow=/dev/nvidia{gpus[gpu][1]} rw" for gpu in wanted]
    nodes = sorted({gpus[gpu][2] for gpu in wanted})
    # -1: the machine has one memory for all, or the firmware does not say.
    if nodes and nodes[0] >= 0:
        lines += ["NUMAPolicy=bind", f"NUMAMask={','.join(map(str, nodes))}", "CPUAffinity=numa"]
    return lines


def without_comments(text: str) -> str:
    """What matters to systemd: a better comment is no reason to restart an engine."""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";")))


def verify(engine: str, unit: str, drop_in: str) -> None:
    """Shows the candidate to systemd itself, under the engine's own name, before anything is replaced."""
    with tempfile.TemporaryDirectory(prefix="rackserve-unit-") as folder:
        path = Path(folder) / f"vllm@{engine}.service"
        path.write_text(unit)
        (Path(folder) / f"{path.name}.d").mkdir()
        (Path(folder) / f"{path.name}.d" / "rackserve.conf").write_text(drop_in)
        result = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        # Unknown settings are only warnings to systemd; here they are mistakes. Other units' warnings are not ours.
        said = [
            line.replace(folder, "")
            for line in (result.stderr + result.stdout).splitlines()
            if f"vllm@{engine}" in line or folder in line
        ]
        if result.returncode or said:
            raise UnitProblem(
                f"systemd refuses the unit vllm@{engine}.service: {'; '.join(said) or result.stderr.strip()}"
            )


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--no-pager", *words], capture_output=True, text=True, check=False)


def active_state(unit: str) -> str:
    return systemctl("show", "-P", "ActiveState", unit).stdout.strip()
