"""SLOs, alerts, retention, scenarios and tracing: what is measured and who hears of it."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from rackserve.definition.models.base import (
    Amount,
    Count,
    CountOrNone,
    Gibibytes,
    HeaderName,
    Name,
    Percent,
    Seconds,
    ServedName,
    Strict,
    Url,
    refuse,
)

_TIMED = ("ttft", "inter_token", "queue_wait", "response_time")


class ReplyLength(Strict):
    """A class of answers by their length in tokens."""

    from_tokens: CountOrNone = Field(default=0, description="Shortest reply of the class")
    to_tokens: Count | None = Field(default=None, description="Longest reply of the class; default: no end")


class Slo(Strict):
    """A promise to users, measured over a window."""

    name: Name = Field(description="Name of the SLO, unique")
    pool: Name = Field(description="The pool it is about")
    lane: Name | None = Field(default=None, description="Only this lane; default: all")
    indicator: Literal["availability", "ttft", "inter_token", "queue_wait", "response_time", "cost"] = Field(
        description="What is good: no error; within threshold_seconds (timed ones); within threshold_cost (cost)"
    )
    threshold_seconds: Seconds | None = Field(
        default=None, description="For the timed indicators: the edge between good and bad"
    )
    threshold_cost: Amount | None = Field(
        default=None, description="For cost: the most that one request may cost, in the currency of service_prices"
    )
    reply_length: ReplyLength | None = Field(default=None, description="For response_time: only replies of this length")
    objective_percent: Annotated[float, Field(gt=0, lt=100)] = Field(
        description="Share of good requests; 100 leaves no error budget and is refused"
    )
    window_days: Annotated[int, Field(ge=1, le=90)] = Field(default=30, description="Window of the promise")
    alert: Literal["page_and_ticket", "ticket", "none"] = Field(
        default="page_and_ticket", description="What a burning budget does"
    )
    minimum_requests_per_hour: CountOrNone = Field(default=10, description="Below this traffic nobody is woken")

    @model_validator(mode="after")
    def _threshold_fits_indicator(self) -> "Slo":
        wanted = (
            {"threshold_seconds"}
            if self.indicator in _TIMED
            else {"threshold_cost"}
            if self.indicator == "cost"
            else set()
        )
        given = {key for key in ("threshold_seconds", "threshold_cost") if getattr(self, key) is not None}
        if given != wanted:
            needs = (
                f"needs {' and '.join(wanted)}"
                if wanted - given
                else f"takes no {' and '.join(sorted(given - wanted))}"
            )
            raise refuse(
                f"indicator {self.indicator} {needs}",
                "threshold_seconds with the timed indicators, threshold_cost with cost, none with availability",
            )
        if self.reply_length is not None and self.indicator != "response_time":
            raise refuse(f"indicator {self.indicator} takes no reply_length", "reply_length with response_time only")
        return self


class AlertReceiver(Strict):
    """Someone who is told."""

    name: Name = Field(description="Name of the receiver")
    kind: Literal["webhook", "slack", "email"] = Field(description="How")
    url: SecretStr | None = Field(default=None, description="For webhook and slack: the address, from a vault variable")
    to: str | None = Field(default=None, description="For email: the address")
    severities: Annotated[tuple[Literal["page", "ticket"], ...], Field(min_length=1)] = Field(
        default=("page", "ticket"), description="Which alerts"
    )

    @model_validator(mode="after")
    def _address_fits_kind(self) -> "AlertReceiver":
        if (self.url is None) == (self.kind != "email") or (self.to is None) == (self.kind == "email"):
            raise refuse(
                f"a receiver of kind {self.kind} has another address", "url for webhook and slack, to for email"
            )
        return self


class Alerts(Strict):
    """Where alerts go."""

    receivers: tuple[AlertReceiver, ...] = Field(default=(), description="Who is told")
    smtp_host: str | None = Field(default=None, description="Mail server for email receivers, host:port")
    smtp_from: str | None = Field(default=None, description="Sender of mails")
    dead_man_url: SecretStr | None = Field(
        default=None, description="Address that is called as long as alerting works, from a vault variable"
    )


class Retention(Strict):
    """How long things are kept, and how much space they may take."""

    metrics_days: Count = Field(default=45, description="Metrics, at most this long")
    metrics_gib: Gibibytes = Field(default=10, description="Metrics, at most this much")
    log_days: Count = Field(default=14, description="Request lines on the balancers")
    log_gib: Gibibytes = Field(default=2, description="Request lines on one balancer, at most this much")
    journal_gib: Gibibytes = Field(default=1, description="systemd journal of one node")
    crash_dump_days: CountOrNone = Field(default=7, description="Crash and stack dumps; 0: none are kept")


class Scenario(Strict):
    """A kind of use, recognised by what is given (one match is enough)."""

    names: tuple[ServedName, ...] = Field(default=(), description="Model names")
    lanes: tuple[Name, ...] = Field(default=(), description="Lanes")
    header: HeaderName | None = Field(default=None, description="Header whose value is the scenario's name")


class Tracing(Strict):
    """OpenTelemetry traces: engines send them, balancers hand over the trace's id."""

    endpoint: Url = Field(
        description="OTLP address of the collector, such as http://collector:4318/v1/traces, or http://collector:4317 for grpc"
    )
    protocol: Literal["http", "grpc"] = Field(default="http", description="How engines speak to the collector")
    sample_percent: Percent = Field(
        default=1, description="Share of requests that are traced, of those whose client says nothing about it"
    )

    @model_validator(mode="after")
    def _address_fits_protocol(self) -> "Tracing":
        scheme, _, rest = self.endpoint.partition("://")
        path = rest.partition("/")[2]
        if self.protocol == "grpc" and (scheme != "http" or path):
            raise refuse(
                "protocol grpc takes neither TLS nor a path, as vLLM speaks it",
                "http://HOST:PORT with grpc",
                "correct endpoint, or set protocol to http",
            )
        if self.protocol == "http" and not path:
            raise refuse(
                "protocol http needs the path at which the collector takes traces",
                "such as http://collector:4318/v1/traces",
            )
        return self
