"""A fresh demo by stage, against the bare sum of what nobody can save: debootstrap, package downloads, engine starts.

Drops the lab and its caches first. Both sides come from one run, so the network and the other core weigh on both.
Goal: at most 1.3 times the sum.
"""

import json
import re

from measure import cost, store

# Tasks of site.yml whose time is downloading and unpacking packages, or vLLM loading.
PARTS = {
    "packages of the nodes": (
        "base : Install packages",
        "firewall : Install nftables",
        "model_store : Have rsync",
        "vllm : Install packages",
        "haproxy : Install HAProxy, without starting it on the distribution's example",
    ),
    "vLLM and its dependencies": ("vllm : Build the environments",),
    "start of the engines": ("vllm : Start the engines that do not answer",),
}


def seconds_by_task(output: str) -> dict[str, float]:
    """From the table at the end of a run with the callback ansible.posix.profile_tasks."""
    return {name: float(seconds) for name, seconds in re.findall(r"^(\S.*?) -{3,} +([0-9.]+)s$", output, re.MULTILINE)}


def main() -> None:
    cost("scripts/lab", "down", "--caches")
    run = cost(
        "scripts/demo",
        "--json",
        ANSIBLE_CALLBACKS_ENABLED="ansible.posix.profile_tasks",
        PROFILE_TASKS_TASK_OUTPUT_LIMIT="all",
        ANSIBLE_FORCE_COLOR="0",
    )
    stages = json.loads(run.output.strip().splitlines()[-1])
    tasks = seconds_by_task(run.output)
    unpacked = [float(text) for text in re.findall(r"packages unpacked after (\d+) s", run.output)]
    assert unpacked, f"the lab did not build a base image:\n{run.output[-2000:]}"
    parts = {"debootstrap": max(unpacked)} | {
        part: round(sum(tasks.get(name, 0.0) for name in names), 1) for part, names in PARTS.items()
    }
    assert all(parts.values()), f"a part was not found in the run: {parts}\n{sorted(tasks)}"
    total = stages["models"] + stages["lab"] + stages["site.yml"]
    store(
        "demo",
        "make bench (tests/bench/bench_demo.py)",
        {
            "stages_seconds": stages,
            "parts_seconds": parts,
            "demo_seconds": round(total, 1),
            "sum_of_parts_seconds": round(sum(parts.values()), 1),
            "ratio": round(total / sum(parts.values()), 2),
        },
    )


if __name__ == "__main__":
    main()
