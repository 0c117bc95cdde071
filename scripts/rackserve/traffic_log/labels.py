"""Values of labels that come from requests, bounded: what the settings do not name is `other`, what is missing is `none`."""

import re

from rackserve.traffic_log.line import Request
from rackserve.traffic_log.outcome import NONE as ABSENT
from rackserve.traffic_log.settings import Settings

NONE = "none"
OTHER = "other"
REASONS_AT_MOST = 100
_REASON = re.compile(r"[a-z0-9_]{1,64}")
_ORIGINS = {"client", "probe", "loadtest"}


class Labels:
    """What a request is counted under."""

    def __init__(self, settings: Settings) -> None:
        self._pools = frozenset(settings.pools)
        self._lanes = frozenset(settings.lanes)
        self._tracks = frozenset(settings.tracks)
        self._tenants = frozenset(settings.tenants[: settings.tenants_at_most])
        self._scenarios = frozenset(settings.scenarios)
        self._endpoints = frozenset(settings.endpoints)
        self._reasons: set[str] = set()

    def place(self, request: Request) -> tuple[str, str, str, str, str]:
        """pool, lane, track, tenant, origin"""
        return (
            _one_of(self._pools, request.pool),
            _one_of(self._lanes, request.lane),
            _one_of(self._tracks, request.track),
            _one_of(self._tenants, request.tenant),
            self._origin(request),
        )

    def drawn(self, request: Request) -> str:
        """The track that was drawn, also where it had no engine left and stable served."""
        return _one_of(self._tracks, request.track if request.missed_by == ABSENT else request.missed_by)

    def scenario(self, request: Request) -> str:
        return _one_of(self._scenarios, request.scenario)

    def endpoint(self, request: Request) -> str:
        path = request.path
        return "/v1/models" if path.startswith("/v1/models/") else _one_of(self._endpoints, path)

    def reason(self, value: str) -> str:
        """Reasons are the balancer's own words; the bound is for the day on which something else gets in."""
        if value in self._reasons:
            return value
        if len(self._reasons) >= REASONS_AT_MOST or _REASON.fullmatch(value) is None:
            return OTHER
        self._reasons.add(value)
        return value

    @staticmethod
    def _origin(request: Request) -> str:
        """Before the balancer says it, the lane `internal`, which no client can choose, tells probes apart."""
        if request.origin in _ORIGINS:
            return request.origin
        return "probe" if request.lane == "internal" else "client"


def _one_of(known: frozenset[str], value: str) -> str:
    if value in known:
        return value
    return NONE if value in {ABSENT, ""} else OTHER
