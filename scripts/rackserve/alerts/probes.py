"""Alerts on what the probes find, and on the probes themselves: without one a hung engine gets requests."""

from rackserve.alerts.form import Alert, alert
from rackserve.definition.raw import GPU_NODES
from rackserve.definition.read import Definition

_ENGINE = "{{ $labels.engine }}"


def alerts(definition: Definition) -> list[Alert]:
    names = definition.members(GPU_NODES)
    return [*[_gone(name) for name in names], *_of_no_use(), *_hung()]


def _gone(node: str) -> Alert:
    up = f'up{{job="probe",node="{node}"}}'
    return alert(
        "ProbeDown",
        "ticket",
        f"{up} == 0 or absent({up})",
        f"{node}: its engines are not watched for hanging",
        f"For 3 minutes the probe on {node} has not answered Prometheus. The balancers keep its last word and notice dead engines, "
        "not hung ones.",
        # Restarts of the probe take seconds.
        waits="3m",
        node=node,
        reason="gone",
    )


def _of_no_use() -> list[Alert]:
    return [
        alert(
            "ProbeDown",
            "ticket",
            'rackserve_probe_blind{job="probe"} == 1',
            f"{_ENGINE}: nobody can tell whether it hangs",
            f"For 10 minutes the probe has not been able to judge {_ENGINE} (pool {{{{ $labels.pool }}}}): it refuses the question, or "
            "its figures lack a counter of tokens.",
            waits="10m",
            reason="blind",
        ),
        alert(
            "ProbeDown",
            "ticket",
            'rackserve_probe_deadline_short{job="probe"} == 1',
            f"{_ENGINE}: its token deadline is too short",
            "For 10 minutes the token deadline of the pool {{ $labels.pool }} was less than twice what one token takes in "
            f"{_ENGINE} with nothing else to do. The probe uses twice that time instead.",
            waits="10m",
            reason="deadline",
        ),
    ]


def _hung() -> list[Alert]:
    spent = 'rackserve_probe_restart_limit_reached{job="probe"}'
    return [
        alert(
            "EngineHung",
            "ticket",
            'rackserve_probe_state{job="probe",state="hung"} == 1',
            f"{_ENGINE}: hangs",
            f"For 1 minute the engine {_ENGINE} of the pool {{{{ $labels.pool }}}} has made no progress. It gets no requests and is "
            "restarted when it does not come back.",
            waits="1m",
            reason="hangs",
        ),
        alert(
            "EngineHung",
            "ticket",
            'increase(rackserve_probe_restarts_total{job="probe"}[1h]) > 0',
            f"{_ENGINE}: was restarted because it hung",
            f"Within 1 hour the engine {_ENGINE} of the pool {{{{ $labels.pool }}}} was restarted {{{{ $value | humanize }}}} "
            "times because it hung. Its stacks are kept on the node.",
            reason="restarted",
        ),
        alert(
            "EngineHung",
            "ticket",
            f"{spent} == 1",
            f"{_ENGINE}: hangs again and is not restarted any more",
            f"For 1 minute the engine {_ENGINE} of the pool {{{{ $labels.pool }}}} has hung again after the restarts that it may have. "
            "It stays out until somebody acts.",
            waits="1m",
            reason="limit",
        ),
    ]
