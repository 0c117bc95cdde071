"""What the screen shows, as one frozen value. Its fields are the keys of `--json`, a promise to whoever reads it.

Times are seconds; None means that nobody could say, never zero.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Missing:
    """Something that could not be asked or does not fit, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Alert:
    """A firing alert. `since`: seconds since 1970."""

    severity: str
    name: str
    labels: dict[str, str]
    summary: str
    runbook: str
    since: float | None


@dataclass(frozen=True)
class Track:
    """Engines of one pool in one track. An engine is up when every balancer that answered says so."""

    track: str
    release: str
    engines_up: int | None
    engines: int


@dataclass(frozen=True)
class Pool:
    """What the balancers count, added up. `slots`: of engines in service, at the balancers that answered.

    The means are HAProxy's own, over the last 1024 requests of each balancer, weighed by their number: no percentiles.
    """

    name: str
    tracks: tuple[Track, ...]
    in_flight: int | None
    slots: int | None
    queued: int | None
    waiting_room: int | None
    mean_queue_seconds: float | None
    mean_first_byte_seconds: float | None
    mean_answer_seconds: float | None


@dataclass(frozen=True)
class Engine:
    """`state`: up, going down, down, drained, maintenance, breaker open, out of its pool, unknown; by balancer where they differ.

    `running`, `waiting`, `kv_cache_ratio`: the engine's own figures, by Prometheus.
    """

    name: str
    pool: str
    node: str
    release: str
    track: str
    state: str
    in_flight: int | None
    slots: int | None
    running: float | None
    waiting: float | None
    kv_cache_ratio: float | None


@dataclass(frozen=True)
class Users:
    """What clients felt in one pool and lane over the last five minutes. Ratios are of all requests."""

    pool: str
    lane: str
    requests_per_second: float
    first_token_p95_seconds: float | None
    answer_p95_seconds: float | None
    refused_ratio: float | None
    failed_ratio: float | None


@dataclass(frozen=True)
class Budget:
    """Of an SLO's window: the share of its error budget that is left, and when it is gone at the last hour's pace."""

    slo: str
    pool: str
    lane: str
    left_ratio: float | None
    exhausted_in_seconds: float | None


@dataclass(frozen=True)
class Balancer:
    """`configuration`: as the inventory, differs, unknown. `holds_address`: None where there is no virtual one."""

    name: str
    answers: bool
    holds_address: bool | None
    configuration: str
    digest: str | None
    version: str | None
    uptime_seconds: int | None
    connections: int | None
    connections_at_most: int | None
    idle_ratio: float | None


@dataclass(frozen=True)
class Drain:
    """An engine that an operator has taken out, by the records at `balancers`. `since`: seconds since 1970.

    `step`: draining, drained, held, returning. `worked_on`: a command is at work on it at this moment.
    """

    engine: str
    step: str
    by: str
    since: float
    worked_on: bool
    reason: str
    balancers: tuple[str, ...]


@dataclass(frozen=True)
class Maintenance:
    """Clients of `key` (a pool, or all) are told to come back at `ends` (seconds since 1970), at these balancers."""

    key: str
    ends: float
    balancers: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """`at`: seconds since 1970, here. `figures_age_seconds`: since Prometheus last heard of the balancers' log services."""

    service: str
    at: float
    balancers: tuple[Balancer, ...]
    pools: tuple[Pool, ...]
    engines: tuple[Engine, ...]
    monitor: str | None
    figures_age_seconds: float | None
    users: tuple[Users, ...]
    budgets: tuple[Budget, ...]
    alerts: tuple[Alert, ...]
    missing: tuple[Missing, ...]
    drains: tuple[Drain, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    @property
    def blind(self) -> bool:
        """Nobody at all could be asked."""
        return self.monitor is None and not any(one.answers for one in self.balancers)

    def as_dict(self) -> dict[str, Any]:
        return {"complete": not self.missing, **asdict(self)}
