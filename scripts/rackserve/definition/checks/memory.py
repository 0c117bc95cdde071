"""Whether slots and contexts fit the declared memory. Estimates, so they warn; impossible values are refused."""

from collections.abc import Iterator

from rackserve.definition.checks.engines import Placed, placed
from rackserve.definition.models.model import Model, Release
from rackserve.definition.problem import Problem
from rackserve.definition.read import Definition

_GIB = 2**30
# vLLM's own default for an engine that has its GPUs alone.
_ALONE = 0.9


def contexts_fit(definition: Definition) -> Iterator[Problem]:
    for name, release in definition.service.releases.items():
        model = definition.service.models.get(release.model)
        longest = release.flags.get("max-model-len")
        if (
            model is not None
            and isinstance(longest, int)
            and not isinstance(longest, bool)
            and longest > model.context_tokens
        ):
            yield Problem(
                ("service_releases", name, "flags", "max-model-len"),
                f"is above context_tokens of model {release.model} ({model.context_tokens})",
                f"up to {model.context_tokens}",
                "lower it; a model gives nonsense beyond the context it was made for",
                str(longest),
            )


def slots_fit(definition: Definition) -> Iterator[Problem]:
    """Weights and the KV cache of all slots at full context, against the memory of the engine's GPUs or node."""
    cpu_need: dict[str, float] = {}
    cpu_last: dict[str, Placed] = {}
    for one in placed(definition):
        release = definition.service.releases.get(one.pool.release)
        model = definition.service.models.get(release.model) if release else None
        node = definition.nodes.get(one.engine.node)
        if release is None or model is None or node is None:
            continue
        need = _need_gib(one, release, model)
        if need is None:
            continue
        if one.pool.device == "cpu":
            cpu_need[one.engine.node] = cpu_need.get(one.engine.node, 0) + need
            cpu_last[one.engine.node] = one
        elif node.gpu_memory_gib is not None:
            have = node.gpu_memory_gib * (one.share or _ALONE) * one.pool.tensor_parallel
            if need > have:
                yield _warning(one, f"engine {one.engine.name}", need, have, f"GPUs of {one.engine.node} offer")
    for name, need in cpu_need.items():
        memory = definition.nodes[name].memory_gib
        if memory is not None and need > memory:
            yield _warning(cpu_last[name], "the engines together", need, memory, f"node {name} offers")


def _context(release: Release, model: Model) -> int:
    longest = release.flags.get("max-model-len")
    return longest if isinstance(longest, int) and not isinstance(longest, bool) else model.context_tokens


def _need_gib(one: Placed, release: Release, model: Model) -> float | None:
    if model.kv_bytes_per_token is None:
        return model.weights_gib
    return (model.weights_gib or 0) + one.pool.slots * _context(release, model) * model.kv_bytes_per_token / _GIB


def _warning(one: Placed, who: str, need: float, have: float, where: str) -> Problem:
    return Problem(
        ("service_pools", one.pool_name, "slots"),
        f"{who} may need {need:.1f} GiB with all slots full, {where} {have:.1f} GiB",
        allowed=f"up to {have:.1f} GiB",
        remedy="lower slots or max-model-len; otherwise the engine preempts requests when contexts are long",
        value=str(one.pool.slots),
        severity="warning",
    )
