"""Alerts on balancers: gone, of two minds, losing lines of their log, or with a certificate that ends soon."""

from rackserve.alerts.form import TRACKS, Alert, alert, number, status
from rackserve.definition.raw import BALANCERS
from rackserve.definition.read import Definition

# Single lines may be lost when a balancer has no processor to spare; from one in a thousand on, percentiles and SLOs
# of 99.9 % are no longer what users felt.
_LOST_SHARE = 0.001
# A renewal takes days where people have to approve it; the lab's own is made anew a month before.
_RENEW_SECONDS, _URGENT_SECONDS = 21 * 86_400, 3 * 86_400


def alerts(definition: Definition) -> list[Alert]:
    names = definition.members(BALANCERS)
    if not names:
        return []
    several = len(names) > 1
    return [
        *([_gone(name) for name in names] if several else []),
        _all_gone(),
        *(_disagreement() if several else []),
        *_log(),
        *(_certificate() if definition.service.tls is not None else []),
    ]


def _gone(node: str) -> Alert:
    up = f'up{{job="haproxy",node="{node}"}}'
    return alert(
        "BalancerGone",
        "ticket",
        f"{up} == 0 or absent({up})",
        f"{node}: the balancer does not answer",
        f"For 2 minutes the balancer {node} has not answered Prometheus. Another one carries the traffic alone.",
        waits="2m",
        node=node,
    )


def _all_gone() -> Alert:
    up = 'up{job="haproxy"}'
    return alert(
        "BalancerGone",
        "page",
        f"sum({up}) == 0 or absent({up})",
        "No balancer answers",
        "For 2 minutes no balancer has answered Prometheus. Either nobody is served, or the monitor is cut off.",
        waits="2m",
        node="all",
    )


def _disagreement() -> list[Alert]:
    up = status("UP", f'proxy=~"engines|pool-.+-({TRACKS})"')
    by = "by (proxy, server)"
    return [
        alert(
            "BalancersDisagree",
            "ticket",
            f"count by (server) (max {by} ({up}) != min {by} ({up}))",
            "{{ $labels.server }}: in service at one balancer and not at another",
            "For 10 minutes the balancers have seen the engine {{ $labels.server }} differently, in {{ $value }} backends.",
            # Longer than an engine takes to come and go, and than an operator takes to go from one balancer to the next.
            waits="10m",
            reason="engines",
        ),
        alert(
            "BalancersDisagree",
            "ticket",
            f'count by (server) (count {by} ({up}) < on () group_left () count(up{{job="haproxy"}} == 1))',
            "{{ $labels.server }}: not every balancer has it in its configuration",
            "For 10 minutes a balancer that answers has not had the engine {{ $labels.server }}, in {{ $value }} backends: they run "
            "different configurations.",
            waits="10m",
            reason="configuration",
        ),
        alert(
            "BalancersDisagree",
            "ticket",
            'count(count by (version) (haproxy_process_build_info{job="haproxy"})) > 1',
            "The balancers run {{ $value }} versions of HAProxy",
            "For 2 hours the balancers have run {{ $value }} different versions of HAProxy.",
            # An update goes from one to the other within this.
            waits="2h",
            reason="version",
        ),
    ]


def _log() -> list[Alert]:
    lost, lines, unwritten = (
        f'sum by (node) (increase(rackserve_log_lines{name}_total{{job="traffic"}}[15m]))'
        for name in ("_lost", "", "_unwritten")
    )
    return [
        alert(
            "LogService",
            "ticket",
            f"{lost} > {number(_LOST_SHARE)} * {lines}",
            "{{ $labels.node }}: {{ $value | humanize }} lines of the request log lost",
            "Within 15 minutes {{ $value | humanize }} lines of HAProxy's log on {{ $labels.node }} did not reach the log service, "
            "more than one in a thousand: figures and SLOs lack these requests.",
            reason="lost",
        ),
        alert(
            "LogService",
            "ticket",
            f"{unwritten} > 0",
            "{{ $labels.node }}: {{ $value | humanize }} lines of the request log written nowhere",
            "Within 15 minutes {{ $value | humanize }} lines on {{ $labels.node }} were counted and could not be written to a file.",
            reason="unwritten",
        ),
    ]


def _certificate() -> list[Alert]:
    ends = 'rackserve_certificate_not_after_timestamp_seconds{job="traffic"}'
    words = (
        "{{ $labels.node }}: its certificate ends in {{ $value | humanizeDuration }}",
        "The certificate that {{ $labels.node }} serves ends in {{ $value | humanizeDuration }}; from then on no client trusts it.",
    )
    return [
        alert(
            "CertificateRunningOut", "page", f"{ends} - time() < {_URGENT_SECONDS}", *words, waits="5m", reason="soon"
        ),
        alert(
            "CertificateRunningOut", "ticket", f"{ends} - time() < {_RENEW_SECONDS}", *words, waits="1h", reason="renew"
        ),
        alert(
            "CertificateRunningOut",
            "ticket",
            f'up{{job="traffic"}} == 1\nunless on (node) {ends}',
            "{{ $labels.node }}: nobody knows when its certificate ends",
            "For 30 minutes the log service on {{ $labels.node }} has not been shown a certificate.",
            waits="30m",
            reason="unread",
        ),
    ]
