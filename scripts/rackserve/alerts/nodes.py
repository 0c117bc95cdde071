"""Alerts on hosts: gone, disk or memory running out, clock off."""

from rackserve.alerts.form import Alert, alert, number
from rackserve.definition.read import Definition

# Journald, models and logs all stop short of it by their own bounds, so whoever gets below is growing without one.
_DISK_FLOOR = 0.05
# Full within a day at the pace of six hours. Only where there is not much left: copying a model looks like that too.
_DISK_SOON_SECONDS, _DISK_SOON_BELOW = 86_400, 0.3
# Linux kills processes soon after; engines are the largest.
_MEMORY_FLOOR = 0.05
# Pages of 4 KiB read back a second: at 1 MiB/s something that is in use has been swapped out.
_SWAPPED_IN = 256
# Limits by the minute and timelines over several balancers need the same time of day; a scrape takes far less than this.
_CLOCK_OFF_SECONDS = 1


def alerts(definition: Definition) -> list[Alert]:
    return [*[_gone(name) for name in definition.nodes], *_disk(), *_memory(), _clock()]


def _gone(node: str) -> Alert:
    up = f'up{{job="node",node="{node}"}}'
    return alert(
        "NodeGone",
        "ticket",
        f"{up} == 0 or absent({up})",
        f"{node}: does not answer",
        f"For 5 minutes the node exporter on {node} has not answered: the host, its network, or only the exporter.",
        # A reboot of a large server takes longer, and is worth a ticket.
        waits="5m",
        node=node,
    )


def _disk() -> list[Alert]:
    # What is in memory has HostMemory.
    free, size, fixed = (
        f'node_filesystem_{what}{{job="node",fstype!~"tmpfs|ramfs"}}'
        for what in ("avail_bytes", "size_bytes", "readonly")
    )
    return [
        alert(
            "DiskRunningOut",
            "page",
            f"{free} / {size} < {number(_DISK_FLOOR)}\nand {fixed} == 0",
            "{{ $labels.node }}: {{ $value | humanizePercentage }} left on {{ $labels.mountpoint }}",
            "For 5 minutes {{ $labels.mountpoint }} on {{ $labels.node }} has had {{ $value | humanizePercentage }} of its space left.",
            waits="5m",
            reason="floor",
        ),
        alert(
            "DiskRunningOut",
            "ticket",
            f"predict_linear({free}[6h], {_DISK_SOON_SECONDS}) < 0\nand {free} / {size} < {number(_DISK_SOON_BELOW)}\nand {fixed} == 0",
            "{{ $labels.node }}: {{ $labels.mountpoint }} is full within a day",
            "At the pace of the last 6 hours {{ $labels.mountpoint }} on {{ $labels.node }} is full within 24 hours.",
            waits="1h",
            reason="trend",
        ),
    ]


def _memory() -> list[Alert]:
    return [
        alert(
            "HostMemory",
            "ticket",
            'node_memory_MemAvailable_bytes{job="node"} / node_memory_MemTotal_bytes{job="node"} '
            f"< {number(_MEMORY_FLOOR)}",
            "{{ $labels.node }}: {{ $value | humanizePercentage }} of the memory left",
            "For 10 minutes {{ $labels.node }} has had {{ $value | humanizePercentage }} of its main memory available.",
            waits="10m",
            reason="low",
        ),
        alert(
            "HostMemory",
            "ticket",
            f'rate(node_vmstat_pswpin{{job="node"}}[5m]) > {_SWAPPED_IN}',
            "{{ $labels.node }}: reads {{ $value | humanize }} pages a second back from swap",
            "For 10 minutes {{ $labels.node }} has read {{ $value | humanize }} pages a second back from swap: memory in use is on disk.",
            waits="10m",
            reason="swap",
        ),
        alert(
            "HostMemory",
            "ticket",
            'increase(node_vmstat_oom_kill{job="node"}[15m]) > 0',
            "{{ $labels.node }}: Linux killed a process for want of memory",
            "Within 15 minutes Linux killed {{ $value | humanize }} processes on {{ $labels.node }} for want of memory.",
            reason="killed",
        ),
    ]


def _clock() -> Alert:
    return alert(
        "ClockOff",
        "ticket",
        'abs(node_time_seconds{job="node"} - timestamp(node_time_seconds{job="node"})) '
        f"> {number(_CLOCK_OFF_SECONDS)}",
        "{{ $labels.node }}: its clock is {{ $value | humanizeDuration }} off the monitor's",
        "For 5 minutes the clock of {{ $labels.node }} has differed by {{ $value | humanizeDuration }} from the monitor's.",
        waits="5m",
    )
