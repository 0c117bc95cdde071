"""The whole definition: each field `x` is the Ansible variable `service_x`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from rackserve.definition.models.base import DirectoryName, Name, Network, Port, Seconds, Strict
from rackserve.definition.models.canary import Canary
from rackserve.definition.models.capacity import Capacity, Prices
from rackserve.definition.models.edge import Edge, Route, Tls, VirtualAddress
from rackserve.definition.models.model import Model, Release
from rackserve.definition.models.observe import Alerts, Retention, Scenario, Slo, Tracing
from rackserve.definition.models.pool import Pool
from rackserve.definition.models.tenant import Lane, Tenant


class Timeouts(Strict):
    """Every time limit of a request. connect < queue < generation <= client, and connect < silence <= generation."""

    connect_seconds: Seconds = Field(default=2, description="Longest connect from the balancer to an engine")
    queue_seconds: Seconds = Field(
        default=20, description="Longest wait for a slot where neither pool nor lane says one"
    )
    silence_seconds: Seconds = Field(
        default=120, description="Longest pause between two pieces of an answer, the first included"
    )
    generation_seconds: Seconds = Field(
        default=900, description="Longest answer; an engine is given this time to finish when it stops"
    )
    client_seconds: Seconds = Field(
        default=900, description="Longest that a client's connection stays open without bytes from it"
    )


class Ports(Strict):
    """Ports of balancers, of the probes and of what watches the service. Engines have their own in service_pools."""

    api: Port = Field(default=8080, description="Where clients connect")
    stats: Port = Field(
        default=8404, description="Statistics and metrics of the balancer, for monitors and balancers only"
    )
    peers: Port = Field(default=8405, description="Where balancers tell each other what tenants have used")
    traffic: Port = Field(
        default=8406, description="Metrics of what users felt, on each balancer, for monitors and balancers only"
    )
    probe: Port = Field(default=8407, description="Where the probe on each GPU node answers the balancers' agent-check")
    probe_metrics: Port = Field(
        default=8408, description="Metrics of the probe on each GPU node, for monitors and balancers only"
    )
    prometheus: Port = Field(default=9090, description="Prometheus on monitors, for monitors only")
    alertmanager: Port = Field(default=9093, description="Alertmanager on monitors, for monitors only")
    alertmanager_peers: Port = Field(default=9094, description="Where the Alertmanagers of several monitors talk")
    node_exporter: Port = Field(default=9100, description="Metrics of each node, for monitors only")


class Service(Strict):
    """The service definition."""

    name: Name = Field(description="Name of the service, in metrics, logs and reports")
    stage: Literal["dev", "test", "prod"] = Field(description="prod refuses the lab's example secrets")
    models: Annotated[Mapping[Name, Model], Field(min_length=1)] = Field(description="Models by name")
    releases: Annotated[Mapping[DirectoryName, Release], Field(min_length=1)] = Field(description="Releases by name")
    pools: Annotated[Mapping[Name, Pool], Field(min_length=1)] = Field(description="Pools by name")
    lanes: Annotated[Mapping[Name, Lane], Field(min_length=1)] = Field(description="Lanes by name")
    tenants: Annotated[Mapping[Name, Tenant], Field(min_length=1)] = Field(description="Tenants by name")
    slos: tuple[Slo, ...] = Field(default=(), description="What users are promised")
    timeouts: Timeouts = Field(default=Timeouts(), description="Time limits of a request")
    ports: Ports = Field(default=Ports(), description="Ports of balancers, probes and monitors")
    engine_key: SecretStr = Field(
        description="Secret between balancers and engines; from a vault variable", min_length=16
    )
    probe_key: SecretStr | None = Field(
        default=None, description="API key with which site.yml and probes ask; from a vault variable"
    )
    admin_networks: tuple[Network, ...] = Field(default=(), description="Networks that may reach ssh; default: any")
    client_networks: tuple[Network, ...] = Field(
        default=(), description="Networks that may reach the API port; default: any"
    )
    virtual_address: VirtualAddress | None = Field(default=None, description="Address that moves between the balancers")
    tls: Tls | None = Field(default=None, description="TLS at the balancers; default: none")
    edge: Edge = Field(default=Edge(), description="Limits on connections and on reading a request")
    routes: tuple[Route, ...] = Field(
        default=(), description="Requests that go to another pool than their model name says; first match wins"
    )
    canary: Canary = Field(default=Canary(), description="How a new release is tried")
    scenarios: Mapping[Name, Scenario] = Field(default={}, description="Kinds of use, a label of metrics")
    retention: Retention = Field(default=Retention(), description="How long metrics and logs are kept")
    alerts: Alerts = Field(default=Alerts(), description="Who is told")
    tracing: Tracing | None = Field(default=None, description="OpenTelemetry traces; default: none")
    prices: Prices | None = Field(
        default=None, description="What hardware and power cost; without it no money figure is shown"
    )
    capacity: Capacity = Field(default=Capacity(), description="What the advice on capacity assumes")
    overrides: tuple[str, ...] = Field(
        default=(), description="In a twin that links another inventory's files: the variables that it sets otherwise"
    )


PREFIX = "service_"
# Former names and what replaced them; a definition that uses one is told so. None has been renamed yet.
RENAMED: Mapping[str, str] = {}
