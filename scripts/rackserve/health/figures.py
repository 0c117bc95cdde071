"""What vLLM's page of metrics says about one engine. Pure.

A page has some hundred kilobytes and comes every second, so lines are found by name and nothing else is parsed.
"""

import math
from dataclasses import dataclass

_TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
# All of these come from the engine core, one word of it per step: in a prefill of several steps tokens stand still and the
# cache fills. Nothing that the API server counts by itself is among them, for that goes on when the core hangs.
_MARKS = (
    *_TOKENS,
    "vllm:iteration_tokens_total_count",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
)
_STARTED = "process_start_time_seconds"


@dataclass(frozen=True)
class Figures:
    """One page. marks: each is None where the page has no such line. started: seconds since 1970, by the engine's clock."""

    started: float | None
    marks: tuple[float | None, ...]
    running: float
    waiting: float

    @property
    def counts_tokens(self) -> bool:
        """Without any counter of tokens nothing can be said about progress."""
        return any(mark is not None for mark in self.marks[: len(_TOKENS)])


def read(page: bytes) -> Figures:
    """Of a page that is none every figure is None."""
    text = b"\n" + page
    marks = tuple(_sum_of(text, name) for name in _MARKS)
    running, waiting = (marks[_MARKS.index(f"vllm:num_requests_{which}")] for which in ("running", "waiting"))
    return Figures(_sum_of(text, _STARTED), marks, running or 0.0, waiting or 0.0)


def _sum_of(text: bytes, name: str) -> float | None:
    """Over all label sets: one process may hold several engine cores. None: no such line, or no number in it."""
    total: float | None = None
    wanted = b"\n" + name.encode()
    at = text.find(wanted)
    while at >= 0:
        begin = at + len(wanted)
        end = text.find(b"\n", begin)
        rest = text[begin : end if end >= 0 else len(text)]
        # A longer name that begins the same is another metric.
        if rest[:1] in (b"{", b" "):
            try:
                value = float(rest.rpartition(b"}")[2].split()[0])
            except (ValueError, IndexError):
                return None
            if not math.isfinite(value):
                return None
            total = (total or 0.0) + value
        at = text.find(wanted, begin)
    return total
