"""The settings of the service: one JSON file, written from the service definition. Strict."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Label = Annotated[str, Field(min_length=1, max_length=128)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]
Tokens = Annotated[int, Field(ge=0)]
Indicator = Literal["ttft", "inter_token", "queue_wait", "response_time"]
Days = Annotated[float, Field(gt=0, le=36_500)]


class SettingsError(Exception):
    """The settings cannot be used; says where, what and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


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
    version: Label = Field(
        default="none", description="What the page calls these settings, to prove that they are used"
    )
    listen: Listen
    socket: Annotated[str, Field(pattern=r"^/", max_length=100)] | None = Field(
        default=None, description="Path of the socket; default: the one that systemd hands over"
    )
    directory: Annotated[str, Field(pattern=r"^/")]
    tls_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Where the balancer serves TLS on this machine; its certificate's end is told"
    )
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
    edges: dict[Indicator, tuple[Seconds, ...]] = Field(
        description="Upper edges of each histogram, ascending, every SLO's threshold among them"
    )
    reply_classes: dict[Label, tuple[Tokens, Tokens | None]] = Field(
        default={"any": (0, None)}, description="Label -> fewest and most tokens; together every length, once"
    )
    retention: Retention

    @model_validator(mode="after")
    def _edges_are_whole(self) -> "Settings":
        for indicator in get_args(Indicator):
            own = self.edges.get(indicator)
            if not own or list(own) != sorted(set(own)):
                raise ValueError(f"edges.{indicator} has to be a list of ascending numbers, and is {own}")
        return self

    @model_validator(mode="after")
    def _classes_cover_all(self) -> "Settings":
        expected: int | None = 0
        for fewest, most in sorted(self.reply_classes.values(), key=lambda one: one[0]):
            if fewest != expected or (most is not None and most < fewest):
                raise ValueError(f"reply_classes: the next class has to begin at {expected}, and begins at {fewest}")
            expected = None if most is None else most + 1
        if expected is not None:
            raise ValueError(f"reply_classes: no class has replies of {expected} tokens and more")
        return self


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
