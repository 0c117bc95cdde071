"""Models and releases: what is loaded, from where, in which revision, with which software and flags."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rackserve.definition.models.base import (
    AbsolutePath,
    Count,
    DirectoryName,
    FlagValue,
    Gibibytes,
    Name,
    Strict,
    Url,
    refuse,
)


class NodeSource(Strict):
    """The model's files stand on each GPU node already."""

    kind: Literal["node"] = Field(description="The files are in a directory of the node itself")
    path: AbsolutePath = Field(description="Directory on the node")


class ControllerSource(Strict):
    """The model's files stand on the machine that runs Ansible and are copied by rsync."""

    kind: Literal["controller"] = Field(description="The files are on the machine that runs Ansible")
    path: AbsolutePath = Field(description="Directory on that machine")


def _repository(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", value) is None:
        raise refuse("is not a repository of a hub", "owner/name, such as example-org/model-8b")
    return value


def _vault_variable(value: str) -> str:
    if re.fullmatch(r"vault_[a-z0-9_]+", value) is None:
        raise refuse(
            "is not the name of a vault variable",
            "the name of a variable that starts with vault_",
            "put the token into vault.yml (ansible-vault edit) and write the variable's name here, never the token",
        )
    return value


class HuggingfaceSource(Strict):
    """The model is downloaded from a hub in a fixed revision."""

    kind: Literal["huggingface"] = Field(description="The files come from a Hugging Face hub or a mirror of it")
    repository: Annotated[str, AfterValidator(_repository)] = Field(description="owner/name on the hub")
    endpoint: Url | None = Field(default=None, description="Address of a mirror; default: the public hub")
    token_variable: Annotated[str, AfterValidator(_vault_variable)] | None = Field(
        default=None,
        description="Name of the vault variable that holds the access token; the token itself never stands here",
    )
    include: tuple[str, ...] = Field(
        default=(), description="Only files that match one of these patterns; default: all"
    )


Source = Annotated[NodeSource | ControllerSource | HuggingfaceSource, Field(discriminator="kind")]


class Model(Strict):
    """A set of weights in one revision."""

    source: Source = Field(description="Where the files come from")
    revision: DirectoryName = Field(description="Pinned revision; for a hub the full commit, not a branch")
    context_tokens: Count = Field(description="The longest context that the model was made for")
    weights_gib: Gibibytes | None = Field(
        default=None, description="Size of the weights in memory; used to warn of too many slots"
    )
    kv_bytes_per_token: Count | None = Field(
        default=None, description="KV cache of one token over all layers; used to warn of too many slots"
    )
    tools: bool = Field(default=False, description="The model can call tools, so smoke tests try it")
    license: str | None = Field(default=None, description="Licence of the weights, for your own overview")


# Flags that another key of the definition owns, with that key. vLLM takes - and _ alike; looked up with -.
OWNED_FLAGS: Mapping[str, str] = {
    "host": "the engine's node decides its address",
    "port": "use `port` of the engine in service_pools",
    "uds": "engines listen on `port` of the engine in service_pools",
    "api-key": "use service_engine_key",
    "served-model-name": "use `names` of the pool",
    "model": "use `model` of the release",
    "revision": "use `revision` of the model in service_models",
    "download-dir": "models are placed by the model store",
    "max-num-seqs": "use `slots` of the pool",
    "shutdown-timeout": "the longest generation in service_timeouts decides how long a stop waits",
    "tensor-parallel-size": "use `tensor_parallel` of the pool",
    "tp": "use `tensor_parallel` of the pool",
    "pipeline-parallel-size": "one engine runs on one node; use `tensor_parallel` of the pool",
    "pp": "one engine runs on one node; use `tensor_parallel` of the pool",
    "data-parallel-size": "add engines to the pool instead; the balancer spreads requests over them",
    "dp": "add engines to the pool instead; the balancer spreads requests over them",
    "gpu-memory-utilization": "use `memory_share` of the pool or of the engine",
    "device": "use `device` of the pool",
    "otlp-traces-endpoint": "use service_tracing",
    "custom-histogram-buckets": "edges follow from the thresholds of service_slos",
    "device-ids": "use `gpus` of the engine",
    "ssl-keyfile": "TLS ends at the balancer; use service_tls",
    "ssl-certfile": "TLS ends at the balancer; use service_tls",
    "config": "write the flags here, one by one, so that they can be checked",
    "middleware": "it would run unchecked code in front of the engine's key",
}
OWNED_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_API_KEY": "use service_engine_key",
    "CUDA_VISIBLE_DEVICES": "use `gpus` of the engine",
    "NVIDIA_VISIBLE_DEVICES": "use `gpus` of the engine",
    "VLLM_CPU_OMP_THREADS_BIND": "use `cpus` of the engine",
    "VLLM_PORT": "use `port` of the engine",
    "VLLM_HOST_IP": "the engine's node decides its address",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "use `protocol` of service_tracing",
    "OTEL_TRACES_SAMPLER": "use `sample_percent` of service_tracing",
    "HF_TOKEN": "use `token_variable` of the model's source; engines run without access to a hub",
    "HF_HUB_OFFLINE": "engines always run without access to a hub",
    "VLLM_NO_USAGE_STATS": "usage statistics are always off",
}


def _flag(flag: str) -> str:
    plain = flag.lstrip("-").replace("_", "-")
    owner = OWNED_FLAGS.get(plain) or OWNED_FLAGS.get(plain.removeprefix("no-"))
    if owner is not None:
        raise refuse("is a flag that belongs to another key", "flags without a key of their own", owner)
    if flag != plain or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", plain) is None:
        raise refuse(
            "is not the name of a flag", "names without leading dashes, with '-' between words", f"write {plain}"
        )
    return flag


def _variable(name: str) -> str:
    if name in OWNED_ENVIRONMENT:
        raise refuse(
            "is a variable that belongs to another key", "variables without a key of their own", OWNED_ENVIRONMENT[name]
        )
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise refuse("is not the name of an environment variable", "letters, digits and '_'")
    return name


def _one_line(value: str) -> str:
    if "\n" in value:
        raise refuse("has several lines", "one line of text in quotes")
    return value


Flag = Annotated[str, AfterValidator(_flag)]
Variable = Annotated[str, AfterValidator(_variable)]
OneLine = Annotated[str, AfterValidator(_one_line)]


class Release(Strict):
    """Software, model and flags that belong together. Never edited: a change is a new release beside it."""

    package: DirectoryName = Field(
        default="vllm", description="Python package of the engine: vllm for GPUs, vllm-cpu for CPUs"
    )
    version: DirectoryName = Field(description="Exact version of the package")
    lock: DirectoryName = Field(description="Name of the lock file with every dependency and its hashes")
    model: Name = Field(description="A model of service_models")
    flags: Mapping[Flag, FlagValue] = Field(
        default={},
        description="Further flags of the engine, without leading dashes; checked against the installed version",
    )
    environment: Mapping[Variable, OneLine] = Field(
        default={}, description="Further environment variables of the engine, values in quotes"
    )
