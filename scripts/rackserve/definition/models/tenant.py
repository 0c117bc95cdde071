"""Lanes, tenants, keys and limits: who may use what, how much, and with which priority."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rackserve.definition.models.base import Amount, Count, Day, Name, Percent, Seconds, Strict, refuse


class Limits(Strict):
    """Limits of a key, a tenant or (as defaults) a lane. What is not set is not limited at that level."""

    requests_per_minute: Count | None = Field(default=None, description="Requests in a minute")
    tokens_per_minute: Count | None = Field(
        default=None, description="Prompt and reply tokens in a minute, charged by what was used"
    )
    concurrent_requests: Count | None = Field(default=None, description="Requests running or queued at the same time")
    parallel_streams: Count | None = Field(default=None, description="Streams open at the same time")
    parallel_generations: Count | None = Field(
        default=None, description="Answers of one request: n, best_of, lists of prompts"
    )
    prompt_bytes: Count | None = Field(default=None, description="Size of a request body")
    prompt_tokens: Count | None = Field(default=None, description="Estimated tokens of a prompt")
    messages: Count | None = Field(default=None, description="Messages of a chat request")
    max_tokens: Count | None = Field(
        default=None, description="Longest reply that may be asked for, in every spelling of max_tokens"
    )
    default_max_tokens: Count | None = Field(
        default=None, description="Longest reply of a request that does not say one"
    )
    over_cap: Literal["refuse", "clamp"] | None = Field(
        default=None, description="A request over max_tokens is refused, or its max_tokens lowered; default: refuse"
    )


class HourShare(Strict):
    """A share of the slots for some hours of the day (local time of the balancers)."""

    from_hour: Annotated[int, Field(ge=0, le=23)] = Field(description="First hour")
    to_hour: Annotated[int, Field(ge=1, le=24)] = Field(
        description="The hour at which it ends; below from_hour: over midnight"
    )
    slots_percent: Percent = Field(description="Share of a pool's slots in that time")


class Lane(Strict):
    """A class of traffic."""

    priority: Annotated[int, Field(ge=0, le=1000)] = Field(description="Order in the queue; lower goes first")
    queue_timeout_seconds: Seconds | None = Field(
        default=None, description="Longest wait for a slot; default: that of the pool"
    )
    generation_timeout_seconds: Seconds | None = Field(
        default=None, description="Longest answer, streams too; default: service_timeouts.generation_seconds"
    )
    slots_percent: Percent = Field(default=100, description="Most of a pool's slots that the lane may hold")
    slots_percent_by_hour: tuple[HourShare, ...] = Field(default=(), description="Other shares for some hours")
    queue_percent: Percent = Field(default=100, description="Most of a pool's queue that the lane may hold")
    ageing_seconds: Seconds | None = Field(
        default=None, description="After this wait a request is ordered before newer ones of every lane"
    )
    limits: Limits = Field(default=Limits(), description="Limits of tenants in this lane that set none of their own")
    log_days: Count | None = Field(
        default=None, description="Days its request lines are kept; default: service_retention.log_days"
    )


def _sha256(value: str) -> str:
    if re.fullmatch(r"[0-9a-f]{64}", value):
        return value
    if re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise refuse(
            "is a SHA-256 with capital letters", "64 hexadecimal digits in small letters", "write it in small letters"
        )
    if (
        value.startswith("sk-")
        or len(value) not in (32, 40, 56, 96, 128)
        or re.fullmatch(r"[0-9a-fA-F]+", value) is None
    ):
        raise refuse(
            "is not a hash; it looks like a key itself",
            "the SHA-256 of the key: 64 hexadecimal digits in small letters",
            'treat that key as known to others and make a new one; store only: printf %s "$KEY" | sha256sum',
        )
    raise refuse(
        f"is a hash of {len(value)} digits, not a SHA-256",
        "64 hexadecimal digits in small letters",
        'make it with: printf %s "$KEY" | sha256sum',
    )


class Key(Strict):
    """One API key, known by its hash only."""

    id: Name = Field(description="Name of the key in logs and commands, unique in the tenant")
    sha256: Annotated[str, AfterValidator(_sha256)] = Field(
        description="SHA-256 of the key; the key itself stands nowhere"
    )
    lane: Name | None = Field(default=None, description="Lane of requests with this key; default: that of the tenant")
    expires: Day | None = Field(default=None, description="First day on which the key is refused")
    limits: Limits = Field(default=Limits(), description="Limits of this key, inside those of the tenant")


class Budget(Strict):
    """Money that a tenant may use in a calendar month, in the currency of service_prices."""

    per_month: Amount = Field(description="Amount")
    refuse_beyond: bool = Field(default=False, description="Refuse requests when it is used up; default: alert only")


class Tenant(Strict):
    """The owner of API keys."""

    lane: Name = Field(description="A lane of service_lanes")
    pools: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="Pools of service_pools that the tenant may use"
    )
    keys: tuple[Key, ...] = Field(default=(), description="Its keys; two at a time during a rotation")
    limits: Limits = Field(default=Limits(), description="Limits of the tenant, over all its keys")
    reserved_slots_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0, description="Share of the slots of its pools kept free for it"
    )
    file_urls: bool = Field(
        default=False, description="May send addresses of images or files, which the engine then fetches"
    )
    budget: Budget | None = Field(default=None, description="Money per month")
    log_days: Count | None = Field(
        default=None, description="Days its request lines are kept; default: those of its lane"
    )
