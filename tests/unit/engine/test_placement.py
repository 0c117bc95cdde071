"""Which devices and which memory an engine gets, decided from what the driver and the kernel show (faked here)."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils import rackserve_engine_unit as unit


def machine(root: Path, *gpus: tuple[str, int, int | None]) -> Path:
    """A /proc and /sys with these GPUs: PCI address, device number, NUMA node (None: the kernel does not say)."""
    for address, minor, numa in gpus:
        driver = root / "proc/driver/nvidia/gpus" / address
        driver.mkdir(parents=True)
        (driver / "information").write_text(f"Model: \t\t GPU\nBus Location: \t {address}\nDevice Minor: \t {minor}\n")
        device = root / "sys/bus/pci/devices" / address
        device.mkdir(parents=True)
        if numa is not None:
            (device / "numa_node").write_text(f"{numa}\n")
    return root


def engine(*gpus: int) -> dict[str, object]:
    return {"name": "e1", "device": "gpu", "gpus": list(gpus)}


def test_a_cpu_engine_gets_no_device(tmp_path: Path) -> None:
    assert unit.placement({"name": "e1", "device": "cpu", "gpus": []}, tmp_path) == ["PrivateDevices=yes"]


def test_a_gpu_engine_gets_its_own_gpu_and_the_shared_devices(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:41:00.0", 0, -1), ("0000:c1:00.0", 1, -1))
    lines = unit.placement(engine(1), root)
    assert "DevicePolicy=closed" in lines
    assert "DeviceAllow=/dev/nvidia1 rw" in lines
    assert "DeviceAllow=/dev/nvidia0 rw" not in lines
    assert "DeviceAllow=/dev/nvidiactl rw" in lines


def test_gpus_are_counted_in_the_order_of_the_bus_not_of_the_device_numbers(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:c1:00.0", 0, -1), ("0000:41:00.0", 7, -1))
    assert "DeviceAllow=/dev/nvidia7 rw" in unit.placement(engine(0), root)


def test_memory_and_processors_stay_on_the_numa_node_of_the_gpu(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:41:00.0", 0, 0), ("0000:c1:00.0", 1, 1))
    lines = unit.placement(engine(1), root)
    assert [line for line in lines if "NUMA" in line or "CPUAffinity" in line] == [
        "NUMAPolicy=bind",
        "NUMAMask=1",
        "CPUAffinity=numa",
    ]


def test_an_engine_over_two_nodes_may_use_both(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:41:00.0", 0, 0), ("0000:c1:00.0", 1, 1))
    assert "NUMAMask=0,1" in unit.placement(engine(0, 1), root)


@pytest.mark.parametrize("numa", [-1, None])
def test_without_a_numa_node_nothing_is_bound(tmp_path: Path, numa: int | None) -> None:
    root = machine(tmp_path, ("0000:41:00.0", 0, numa))
    assert not [line for line in unit.placement(engine(0), root) if "NUMA" in line]


def test_a_gpu_that_the_driver_does_not_show_is_refused_by_number(tmp_path: Path) -> None:
    root = machine(tmp_path, ("0000:41:00.0", 0, 0))
    with pytest.raises(unit.UnitProblem, match=r"engine e1 wants GPU 1, but the driver .* shows 1 \(0000:41:00.0\)"):
        unit.placement(engine(1), root)


def test_a_node_without_a_driver_says_so(tmp_path: Path) -> None:
    with pytest.raises(unit.UnitProblem, match=r"shows 0 \(none\)\. Check nvidia-smi"):
        unit.placement(engine(0), tmp_path)


def test_a_comment_in_the_unit_is_no_reason_to_restart() -> None:
    old, new = "[Service]\n# why\nUser=vllm\n", "[Service]\n; better reason\n\nUser=vllm\n"
    assert unit.without_comments(old) == unit.without_comments(new)
    assert unit.without_comments(old) != unit.without_comments(old.replace("vllm", "root"))
