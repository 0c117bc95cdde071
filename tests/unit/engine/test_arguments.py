"""Typed flags of the definition become words of a command line."""

from __future__ import annotations

import pytest
from ansible.module_utils import rackserve_arguments as arguments


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"max-model-len": 2048}, ["--max-model-len", "2048"]),
        ({"enforce-eager": True}, ["--enforce-eager"]),
        ({"enable-prefix-caching": False}, ["--no-enable-prefix-caching"]),
        ({"served-model-name": ["a", "b"]}, ["--served-model-name", "a", "b"]),
        ({"hf-overrides": {"b": 1, "a": 2}}, ["--hf-overrides", '{"a": 2, "b": 1}']),
        ({"seed": -1}, ["--seed=-1"]),
        ({"b": 1, "a": 2}, ["--a", "2", "--b", "1"]),
    ],
)
def test_each_type_of_value_has_its_form(flags: dict[str, object], words: list[str]) -> None:
    assert arguments.arguments_of(flags) == words


def test_an_engine_adds_its_port_names_slots_and_fence() -> None:
    engine = {"port": 8001, "served_names": ["small", "chat"], "slots": 8, "tensor_parallel": 2, "memory_share": 0.5}
    flags = arguments.engine_flags(engine, {"sse-keep-alive-interval": 15}, drain_seconds=60, beyond=4)
    assert flags == {
        "sse-keep-alive-interval": 15,
        "host": "0.0.0.0",
        "port": 8001,
        "served-model-name": ["small", "chat"],
        "max-num-seqs": 8,
        "max-num-queued-reqs": 12,
        "shutdown-timeout": 60,
        "tensor-parallel-size": 2,
        "gpu-memory-utilization": 0.5,
    }


def test_edges_of_histograms_are_a_flag_only_where_there_are_some() -> None:
    engine = {"port": 1, "served_names": ["a"], "slots": 1, "histogram_buckets": {"request_latency": [0.2, 1.0]}}
    flags = arguments.engine_flags(engine, {}, drain_seconds=1, beyond=0)
    words = arguments.words_of("custom-histogram-buckets", flags["custom-histogram-buckets"])
    assert words == ["--custom-histogram-buckets", '{"request_latency": [0.2, 1.0]}']
    flags = arguments.engine_flags(engine | {"histogram_buckets": {}}, {}, drain_seconds=1, beyond=0)
    assert "custom-histogram-buckets" not in flags


def test_one_gpu_with_all_its_memory_needs_no_flag() -> None:
    engine = {"port": 1, "served_names": ["a"], "slots": 1, "tensor_parallel": 1, "memory_share": None}
    flags = arguments.engine_flags(engine, {}, drain_seconds=1, beyond=0)
    assert not {"tensor-parallel-size", "gpu-memory-utilization"} & set(flags)


def test_gpus_are_named_in_the_order_of_the_bus() -> None:
    assert arguments.engine_environment({"device": "gpu", "gpus": [2, 3]}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "2,3",
    }


def test_a_cpu_engine_is_bound_to_its_processors() -> None:
    assert arguments.engine_environment({"device": "cpu", "cpus": "0-3"}) == {"VLLM_CPU_OMP_THREADS_BIND": "0-3"}
