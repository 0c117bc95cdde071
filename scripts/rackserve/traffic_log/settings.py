"""The settings of the service: one JSON file, written from the service definition. Strict."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Label = Annotated[str, Field(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]
Days = Annotated[float, Field(gt=0, le=36_500)]


class SettingsError(Exception):
    """The settings cannot be used; says where, what and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class ReplyLength(_Strict):
    """A class of answers by their length in tokens."""

    from_tokens: Annotated[int, Field(ge=0)] = 0
    to_tokens: Annotated[int, Field(ge=1)] | None = None


class Slo(_Strict):
    """An entry of service_slos as the definition has it; only what makes edges is read."""

    model_config = ConfigDict(extra="ignore")
    indicator: str
    threshold_seconds: Seconds | None = None
    reply_length: ReplyLength | None = None


class Listen(_Strict):
    """Where the page of metrics is."""

    address: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)]


class Pool(_Strict):
    """silence_seconds: longest pause within a stream, as the balancer has it."""

    silence_seconds: Seconds | None = None


class RetentionClass(_Strict):
    """How long the request lines of a class are kept."""

    days: Days


class Retention(_Strict):
    """Files of request lines: `total_bytes` bounds all of them together, the oldest go first."""

    total_bytes: Annotated[int, Field(ge=65_536)]
    file_bytes: Annotated[int, Field(ge=4096)] = 64 * 2**20
    file_seconds: Seconds = 86_400
    classes: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], RetentionClass]
    default: str = "default"
    lanes: dict[str, str] = {}
    tenants: dict[str, str] = {}

    @model_validator(mode="after")
    def _classes_exist(self) -> "Retention":
        for place, name in [("default", self.default), *self.lanes.items(), *self.tenants.items()]:
            if name not in self.classes:
                raise ValueError(f"{place} names the class {name}; classes has {', '.join(self.classes) or 'none'}")
        return self


class Settings(_Strict):
    """Names that may become labels are listed here; every other one is counted as `other`."""

    node: Label
    listen: Listen
    socket: Annotated[str, Field(pattern=r"^/", max_length=100)] | None = Field(
        default=None, description="Path of the socket; default: the one that systemd hands over"
    )
    directory: Annotated[str, Field(pattern=r"^/")]
    pools: Annotated[dict[Label, Pool], Field(max_length=200)]
    lanes: Annotated[tuple[Label, ...], Field(max_length=50)]
    tenants: tuple[Label, ...]
    tenants_at_most: Annotated[int, Field(ge=0, le=10_000)] = 200
    tracks: Annotated[tuple[Label, ...], Field(max_length=10)] = ("stable", "baseline", "canary")
    scenarios: Annotated[tuple[Label, ...], Field(max_length=50)] = ()
    endpoints: Annotated[tuple[Label, ...], Field(max_length=50)] = (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/models",
    )
    slos: tuple[Slo, ...] = ()
    retention: Retention


def read(path: Path) -> Settings:
    """Raises SettingsError with every mistake in it, one a line."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}. Name the file that the role wrote.") from error
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, one['loc'])) or 'the whole file'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join([*lines, "Correct the service definition and write the file again."])) from error
