"""The same playbook again: nothing to do, exactly the edit, and whole again after it was killed."""

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import NODES, REPOSITORY, Service, answers, node, playbook


def test_a_second_run_changes_nothing() -> None:
    first = playbook()
    assert first.status == 0, first.output[-3000:]
    second = playbook()
    assert second.status == 0, second.output[-3000:]
    assert second.changed() == []
    assert {host: second.stats[host]["changed"] for host in NODES} == dict.fromkeys(NODES, 0)


def test_check_mode_with_diff_shows_exactly_the_edit_and_does_nothing(edited_inventory: Path) -> None:
    definition = edited_inventory / "group_vars/all/service.yml"
    before = definition.read_text()
    assert before.count("silence_seconds: 120") == 1
    definition.write_text(before.replace("silence_seconds: 120", "silence_seconds: 121"))

    shown = playbook(
        "--check", "--diff", "--tags", "base,firewall,model_store,vllm,haproxy", inventory=edited_inventory
    )
    assert shown.status == 0, shown.output[-3000:]
    hosts = {host for changed in shown.changes.values() for host in changed}
    assert hosts == {"lb1", "lb2"}, f"an edit of a balancer timeout must touch balancers only: {shown.changed()}"
    lines = [
        line
        for changed in shown.changes.values()
        for result in changed.values()
        for diff in (result.get("diff") or [])
        for line in (str(diff.get("before", "")) + "\n---\n" + str(diff.get("after", ""))).splitlines()
    ]
    assert any("121" in line for line in lines), "the diff does not show the new value"

    again = playbook("--check", "--tags", "base,firewall,model_store,vllm,haproxy")
    assert again.changed() == [], "check mode changed something"


def killed_after(seconds: float) -> None:
    """Starts a run in its own process group and kills all of it, the way a lost terminal or a full disk does."""
    process = subprocess.Popen(
        [str(REPOSITORY / ".venv/bin/ansible-playbook"), "site.yml"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# Work for every role, so that a kill lands in the middle of something. Removing them is harmless: a running daemon has
# read its files, and the run puts them back.
SPOIL = {
    "lb1": ["/etc/haproxy/haproxy.cfg", "/etc/rackserve/firewall.nft", "/etc/rackserve/traffic-log.json"],
    "lb2": ["/etc/haproxy/haproxy.cfg", "/usr/local/lib/rackserve/traffic-log/rackserve/traffic_log/service.py"],
    "gpu1": ["/etc/rackserve/firewall.nft", "/etc/systemd/system/vllm@.service"],
    "gpu2": ["/opt/rackserve/models/tiny/1/tokenizer.json"],
}


SETTINGS, RELOAD = "/etc/rackserve/traffic-log.json", "systemctl reload rackserve-traffic-log.service"


# Every run kills at other moments, so a few each time see many.
@pytest.mark.parametrize("kills", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_point_is_finished_by_the_next_one(service: Service, kills: int) -> None:
    seed = int(os.environ.get("RACKSERVE_TEST_SEED", random.randrange(10**6)))
    draw = random.Random(seed)
    points = [draw.uniform(1, 40) for _ in range(kills)]
    for number, seconds in enumerate(points):
        for name, paths in SPOIL.items():
            node(name, "rm", "-f", *paths)
        # The running log service has other settings than the run writes: killed between writing and reloading, only the
        # page of the service tells it.
        node("lb2", "sh", "-c", f'sed -i \'s/"version": ".*"/"version": "spoiled"/\' {SETTINGS} && {RELOAD}')
        killed_after(seconds)
        done = playbook()
        where = f"seed {seed}, kill {number} after {seconds:.1f} s"
        assert done.status == 0, f"{where}: the next run did not finish\n{done.output[-3000:]}"
        for balancer, url in service.urls.items():
            for pool in service.pools:
                assert answers(url, service.key, pool), f"{where}: {pool} does not answer through {balancer}"
        for name, paths in SPOIL.items():
            node(name, "test", "-s", *paths[:1])
        for name in ("lb1", "lb2"):
            version = json.loads(node(name, "cat", SETTINGS))["version"]
            page = node(name, "curl", "-sf", "http://127.0.0.1:8406/metrics")
            assert f'settings="{version}"' in page, f"{where}: the log service of {name} runs with other settings"
    assert playbook().changed() == [], f"seed {seed}: something was left to do"
