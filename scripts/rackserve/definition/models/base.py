"""The strictness shared by all models, and the small types that several of them use."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Unknown keys are refused, nothing is converted, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def refuse(problem: str, allowed: str = "", remedy: str = "") -> PydanticCustomError:
    """An error of our own with the same three phrases as a Problem."""
    return PydanticCustomError("rackserve", "{problem}", {"problem": problem, "allowed": allowed, "remedy": remedy})


def _matches(pattern: str, allowed: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise refuse("has characters or a length that are not allowed here", allowed)
        return value

    return check


_NAME = (
    "small letters, digits and '-', at most 40, starting and ending with a letter or digit "
    "(it becomes a unit or backend name)"
)
Name = Annotated[str, AfterValidator(_matches(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", _NAME))]

_VERSION = (
    "letters, digits, '.', '_', '+' and '-', at most 80, starting with a letter or digit (it becomes a directory name)"
)
DirectoryName = Annotated[str, AfterValidator(_matches(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", _VERSION))]

_SERVED = "letters, digits and . _ : / -, at most 128, starting with a letter or digit (clients send it as `model`)"
ServedName = Annotated[str, AfterValidator(_matches(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", _SERVED))]

_ABSOLUTE = "an absolute path without spaces, such as /srv/models/tiny"
AbsolutePath = Annotated[str, AfterValidator(_matches(r"/[A-Za-z0-9._/+@-]+", _ABSOLUTE))]

_CPUS = "CPU numbers and ranges, such as 0 or 0-7,16-23"
CpuList = Annotated[str, AfterValidator(_matches(r"\d{1,4}(?:-\d{1,4})?(?:,\d{1,4}(?:-\d{1,4})?)*", _CPUS))]

_HEADER = "a header name, such as X-Session-Id"
# What the balancer takes from every request before it looks at it (role haproxy, templates/haproxy/10-listen.cfg.j2).
_REMOVED = re.compile(r"(?:x-rackserve-|x-vllm-|x-forwarded-).*|authorization|forwarded|upgrade|x-lane", re.IGNORECASE)


def _arrives(value: str) -> str:
    if _REMOVED.fullmatch(value):
        raise refuse("is a header that the balancer removes from every request", _HEADER, "choose another name")
    return value


HeaderName = Annotated[str, AfterValidator(_matches(r"[A-Za-z][A-Za-z0-9-]{0,63}", _HEADER)), AfterValidator(_arrives)]

_URL = "an address such as https://hub.example.org/path"
Url = Annotated[str, AfterValidator(_matches(r"https?://[A-Za-z0-9.\-\[\]:]+(?:/\S*)?", _URL))]

_CURRENCY = "a currency code of three capital letters, such as EUR"
Currency = Annotated[str, AfterValidator(_matches(r"[A-Z]{3}", _CURRENCY))]

_DATE = "a day in quotes, such as '2026-12-31'"
Day = Annotated[str, AfterValidator(_matches(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", _DATE))]


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise refuse(f"is not a network: {error}", "a network such as 10.1.0.0/16, or an address") from error


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise refuse(
            "is not an IP address",
            "an IPv4 or IPv6 address (firewall and balancer are written with addresses, so a name is not enough)",
            "set node_address to the address in the service's network when ansible_host is a name",
        ) from error


Network = Annotated[str, AfterValidator(_network)]
Address = Annotated[str, AfterValidator(_address)]

Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]
Percent = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Gibibytes = Annotated[float, Field(gt=0, le=1_000_000)]


def _flag_value(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and "\n" not in value:
        return value
    if isinstance(value, tuple) and value and all(isinstance(item, str | int | float) for item in value):
        return value
    raise refuse(
        "is not a value that a command line flag can have",
        "true or false (given or not given), a number, one line of text, or a list of those",
        "write a JSON value as one line of text in quotes",
    )


FlagValue = Annotated[bool | int | float | str | tuple[str | int | float, ...], PlainValidator(_flag_value)]
