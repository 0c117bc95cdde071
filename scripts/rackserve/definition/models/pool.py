"""Pools and their engines: who serves a model, on which hardware, with how many slots and which queue."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rackserve.definition.models.base import (
    Count,
    CountOrNone,
    CpuList,
    DirectoryName,
    HeaderName,
    Name,
    Percent,
    Port,
    Seconds,
    ServedName,
    Share,
    Strict,
    refuse,
)
from rackserve.definition.models.canary import Canary


class Engine(Strict):
    """One vLLM unit: one port and a fixed set of devices of one node."""

    name: Name = Field(description="Name of the engine, unique in the service; the unit is vllm@<name>.service")
    node: str = Field(description="A host of the group gpu_nodes")
    port: Port = Field(description="Port on the node, reachable by the balancers and monitors only")
    gpus: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field(
        default=(), description="Numbers of the node's GPUs, as many as tensor_parallel of the pool; empty on CPUs"
    )
    cpus: CpuList | None = Field(default=None, description="CPUs of the engine; default: those near its GPUs, or all")
    memory_share: Share | None = Field(
        default=None, description="Share of each GPU's memory; default: memory_share of the pool"
    )


class Queue(Strict):
    """Requests that wait in the balancer for a slot."""

    max_requests: CountOrNone = Field(
        description="Most requests that wait for this pool; 0: refuse at once when all slots are taken"
    )
    timeout_seconds: Seconds = Field(description="Longest wait; then 503 with Retry-After")


class LeastLoaded(Strict):
    """Each request goes to the engine with the fewest running requests."""

    kind: Literal["least_loaded"] = Field(description="The engine with the fewest requests gets the next one")


class PrefixHash(Strict):
    """Requests with one beginning go to one engine, so that its prefix cache is used, until it is over its bound."""

    kind: Literal["prefix_hash"] = Field(description="Requests that begin alike go to one engine")
    key: Literal["first_message", "session_header"] = Field(default="first_message", description="What is hashed")
    header: HeaderName | None = Field(default=None, description="With key session_header: the header's name")
    load_bound_percent: Annotated[int, Field(ge=101, le=1000)] = Field(
        default=125, description="An engine above this share of the mean load passes requests on"
    )

    @model_validator(mode="after")
    def _header_belongs_to_session_header(self) -> "PrefixHash":
        if (self.key == "session_header") != (self.header is not None):
            raise refuse("key session_header and header belong together", "both or none of them")
        return self


Balance = Annotated[LeastLoaded | PrefixHash, Field(discriminator="kind")]


class PoolTimeouts(Strict):
    """Values that differ from service_timeouts for this pool."""

    connect_seconds: Seconds | None = Field(default=None, description="Replaces service_timeouts.connect_seconds")
    silence_seconds: Seconds | None = Field(default=None, description="Replaces service_timeouts.silence_seconds")
    generation_seconds: Seconds | None = Field(default=None, description="Replaces service_timeouts.generation_seconds")


class Health(Strict):
    """How an engine of the pool is judged alive."""

    interval_seconds: Seconds = Field(default=1, description="Time between two checks")
    fall: Count = Field(default=2, description="Failed checks in a row that take an engine out")
    rise: Count = Field(default=2, description="Good checks in a row that bring it back")
    token_deadline_seconds: Seconds = Field(
        default=10, description="An idle engine has to give one token within this time"
    )
    restart_after_seconds: Seconds = Field(default=120, description="An engine that hangs for longer is restarted")
    slow_start_seconds: Seconds = Field(default=20, description="After recovery the load rises over this time")


class Breaker(Strict):
    """Takes an engine out that answers with errors (deliberate 503 and client errors do not count)."""

    errors: Count = Field(default=5, description="Errors within the window that open the breaker")
    window_seconds: Seconds = Field(default=10, description="Window in which errors are counted")
    open_seconds: Seconds = Field(default=15, description="Time until one request is let through as a trial")


class Retries(Strict):
    """Retries after a failed connect; never after a request was sent."""

    attempts: CountOrNone = Field(default=2, description="Retries of one request")
    budget_percent: Percent = Field(default=10, description="Retries may be at most this share of all requests")


class Overload(Strict):
    """What happens to requests when the pool's queue fills, said in a response header."""

    queue_percent_over: Percent = Field(description="Starts when the queue is fuller than this")
    action: Literal["other_pool", "shorter_replies", "lower_prompt_cap"] = Field(description="What is done")
    pool: Name | None = Field(default=None, description="With other_pool: the pool that takes over")
    max_tokens: Count | None = Field(default=None, description="With shorter_replies: the longest reply")
    prompt_tokens: Count | None = Field(default=None, description="With lower_prompt_cap: the longest prompt")
    lanes: tuple[Name, ...] = Field(default=(), description="Only requests of these lanes; default: all")

    @model_validator(mode="after")
    def _action_has_its_value(self) -> "Overload":
        needed = {"other_pool": "pool", "shorter_replies": "max_tokens", "lower_prompt_cap": "prompt_tokens"}
        given = [key for key in needed.values() if getattr(self, key) is not None]
        if given != [needed[self.action]]:
            raise refuse(
                f"action {self.action} takes exactly the key {needed[self.action]}",
                f"{needed[self.action]}, and none of the others",
            )
        return self


class Pool(Strict):
    """Engines that serve one release with one profile."""

    release: DirectoryName = Field(
        description="A release of service_releases; pointing to another one is the change of a release"
    )
    names: Annotated[tuple[ServedName, ...], Field(min_length=1)] = Field(
        description="Model names that clients may use; the first is the main one"
    )
    device: Literal["gpu", "cpu"] = Field(default="gpu", description="What the engines compute on")
    tensor_parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="GPUs that one engine spreads the model over"
    )
    memory_share: Share | None = Field(
        default=None, description="Share of each GPU's memory; needed where engines share a GPU"
    )
    slots: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="Requests that one engine runs at the same time, over all balancers"
    )
    queue: Queue = Field(description="Requests that wait for a slot")
    balance: Balance = Field(default=LeastLoaded(kind="least_loaded"), description="Which engine gets the next request")
    engines: Annotated[tuple[Engine, ...], Field(min_length=1)] = Field(description="The engines, all of one size")
    timeouts: PoolTimeouts = Field(default=PoolTimeouts(), description="What differs from service_timeouts")
    lanes: tuple[Name, ...] = Field(default=(), description="Lanes that this pool accepts; default: all")
    tenants: tuple[Name, ...] = Field(
        default=(), description="Reserved for these tenants; default: all that list the pool"
    )
    spare_engines: CountOrNone = Field(
        default=0, description="Engines that may be missing while the rest must carry the peak"
    )
    health: Health = Field(default=Health(), description="How engines are judged alive")
    breaker: Breaker = Field(default=Breaker(), description="When an engine with errors is taken out")
    retries: Retries = Field(default=Retries(), description="Retries after a failed connect")
    overload: tuple[Overload, ...] = Field(default=(), description="What happens when the queue fills, in this order")
    canary: Canary | None = Field(default=None, description="Replaces service_canary for this pool")
