"""site.yml with nothing to do: on the lab, and with 12 small nodes more. Goals: 30 s; 5 s per added host.

The added nodes are GPU servers without an engine: another monitor would be a whole Prometheus more.
"""

import re
import shutil
import statistics
import tempfile
from pathlib import Path

import yaml
from measure import REPOSITORY, cost, plain, store

ADDED = 12
REPEATS = 3


def tasks_run(output: str) -> int:
    """Task results over all hosts, from the recap: the unit in which Ansible costs the controller CPU."""
    recap = re.findall(r"ok=(\d+) +changed=(\d+).*?skipped=(\d+)", output)
    return sum(int(ok) + int(skipped) for ok, _, skipped in recap)


def bigger(directory: Path) -> Path:
    """The lab's inventory with 12 nodes that have no engine and no balancer."""
    copy = directory / "lab"
    shutil.copytree(REPOSITORY / "inventory" / "lab", copy)
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    names = [f"n{number:02}" for number in range(1, ADDED + 1)]
    for number, name in enumerate(names, 101):
        hosts["all"]["hosts"][name] = {
            "ansible_host": f"198.18.0.{number}",
            "lab_os": "debian-13",
            "lab_disk_gib": 4,
        }
        hosts["all"]["children"]["gpu_nodes"]["hosts"][name] = None
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
    return copy


def main() -> None:
    small = [cost("ansible-playbook", "site.yml") for _ in range(REPEATS + 1)][1:]
    with tempfile.TemporaryDirectory() as directory:
        inventory = bigger(Path(directory))
        cost("scripts/lab", "up", "-i", str(inventory))
        try:
            cost("ansible-playbook", "site.yml", "-i", str(inventory))
            large = [cost("ansible-playbook", "site.yml", "-i", str(inventory)) for _ in range(REPEATS)]
        finally:
            added = [f"n{number:02}" for number in range(1, ADDED + 1)]
            cost("scripts/lab", "down", *added)
            # The monitors learnt the new nodes' addresses; give them back what the inventory says.
            cost("ansible-playbook", "site.yml")
    for run in (*small, *large):
        assert "changed=0" in run.output, run.output[-2000:]
    few, many = (statistics.median(run.wall_seconds for run in runs) for runs in (small, large))
    few_cpu, many_cpu = (statistics.median(run.cpu_seconds for run in runs) for runs in (small, large))
    few_tasks, many_tasks = tasks_run(small[-1].output), tasks_run(large[-1].output)
    store(
        "site",
        "make bench (tests/bench/bench_site.py)",
        {
            "lab_4_nodes": [plain(run) for run in small],
            "lab_16_nodes": [plain(run) for run in large],
            "rerun_4_nodes_seconds": few,
            "seconds_per_added_host": round((many - few) / ADDED, 2),
            "controller_cpu_per_task_and_host_seconds": round((many_cpu - few_cpu) / (many_tasks - few_tasks), 3),
            "task_results_4_nodes": few_tasks,
            "task_results_16_nodes": many_tasks,
        },
    )


if __name__ == "__main__":
    main()
