"""Every file the bundle manages, spoiled or removed: the next run puts back exactly these and nothing else."""

import pytest
from conftest import Service, answers, node, playbook

# Everything below these that the roles write. Found on the node, so that a file added to a role is covered from then on.
MANAGED = (
    "/etc/rackserve",
    "/etc/haproxy/haproxy.cfg",
    "/etc/haproxy/maps",
    "/etc/systemd/system",
    "/etc/systemd/system.conf.d",
    "/etc/systemd/journald.conf.d",
    "/etc/sysctl.d",
    "/opt/rackserve/engines",
    "/opt/rackserve/models",
    "/opt/rackserve/releases",
    "/opt/rackserve/tools/engine",
    "/usr/local/lib/rackserve/traffic-log",
)
# Not ours although it lies there: what the lab or the distribution put, and what only tells history.
FOREIGN = (
    "/README",
    "/99-sysctl.conf",
    "/history.json",
    ".wants/",
    "/.checked/",
    "dbus-org",
    "default.target",
    "/syslog.service",
)

# A manifest holds the times of its files, which are new after a repair; the files themselves are compared.
WITH_TIMES = ".manifest.json"


def tree(name: str) -> dict[str, str]:
    """Path -> SHA-256 and mode of every managed file of a node; a link counts with its target."""
    script = (
        'for top in "$@"; do [ -e "$top" ] && find "$top/" -type f -printf "%m %p\\n" 2>/dev/null; [ -f "$top" ] && '
        'printf "%s %s\\n" "$(stat -c %a "$top")" "$top"; done | sort -u | while read -r mode path; do '
        'printf "%s\\t%s %s\\n" "$path" "$(sha256sum <"$path" | cut -c1-64)" "$mode"; done'
    )
    lines = node(name, "sh", "-c", script, "sh", *MANAGED).splitlines()
    found = dict(line.split("\t", 1) for line in lines)
    return {path: state for path, state in found.items() if not any(part in path for part in FOREIGN)}


@pytest.mark.parametrize("damage", ["spoiled", "removed"])
def test_every_managed_file_is_put_back_and_nothing_else(service: Service, damage: str) -> None:
    before = {name: tree(name) for name in ("lb1", "gpu2")}
    balancer_process = node("lb1", "systemctl", "show", "-P", "MainPID", "haproxy")
    for name, files in before.items():
        assert len(files) >= 6, f"{name}: only {sorted(files)}"
        command = (
            'for f in "$@"; do ' + ('printf "spoiled\\n" >"$f"' if damage == "spoiled" else 'rm -f "$f"') + "; done"
        )
        node(name, "sh", "-c", command, "sh", *files)

    done = playbook()

    assert done.status == 0, done.output[-4000:]
    after = {name: tree(name) for name in before}
    for name in before:
        wrong = sorted(
            path
            for path in before[name] | after[name]
            if before[name].get(path) != after[name].get(path)
            and not (path.endswith(WITH_TIMES) and path in after[name])
        )
        assert not wrong, f"{name}: not as it was: {wrong}"
    assert {host for changed in done.changes.values() for host in changed} == set(before), done.changed()
    assert node("lb1", "systemctl", "show", "-P", "MainPID", "haproxy") == balancer_process, "HAProxy was restarted"
    for url in service.urls.values():
        assert all(answers(url, service.key, pool) for pool in service.pools)
    assert playbook().changed() == []
