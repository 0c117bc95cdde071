"""From typed flags in the definition to the command line of an engine. Standard library only."""

from __future__ import annotations

import json
from typing import Any


def arguments_of(flags: dict[str, Any]) -> list[str]:
    """One or more words per flag, in the order of the names. Lists become several words, mappings JSON."""
    words: list[str] = []
    for name in sorted(flags):
        words += words_of(name, flags[name])
    return words


def words_of(name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return [f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *[str(item) for item in value]]
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
    # A value that begins with a dash would read as a flag of its own.
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def engine_flags(engine: dict[str, Any], common: dict[str, Any], drain_seconds: int, beyond: int) -> dict[str, Any]:
    """The flags that follow from the engine and its pool."""
    flags: dict[str, Any] = {
        **common,
        "host": "0.0.0.0",
        "port": engine["port"],
        "served-model-name": list(engine["served_names"]),
        "max-num-seqs": engine["slots"],
        "max-num-queued-reqs": engine["slots"] + beyond,
        "shutdown-timeout": drain_seconds,
    }
    if (engine.get("tensor_parallel") or 1) > 1:
        flags["tensor-parallel-size"] = engine["tensor_parallel"]
    if engine.get("memory_share"):
        flags["gpu-memory-utilization"] = engine["memory_share"]
    if engine.get("histogram_buckets"):
        flags["custom-histogram-buckets"] = engine["histogram_buckets"]
    return flags


def engine_environment(engine: dict[str, Any]) -> dict[str, str]:
    """Which processors or GPUs the engine uses."""
    if engine.get("device") == "cpu":
        return {"VLLM_CPU_OMP_THREADS_BIND": str(engine["cpus"])} if engine.get("cpus") else {}
    gpus = ",".join(str(gpu) for gpu in engine.get("gpus") or [])
    # In the order of the PCI bus, as nvidia-smi counts; CUDA's own order is by speed.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpus}
