"""The settings of the probe: one JSON file, written from the service definition. Strict."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Names become file names and words on the wire.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Seconds = Annotated[float, Field(gt=0, le=604_800)]
Port = Annotated[int, Field(ge=0, le=65535)]
Directory = Annotated[str, Field(pattern=r"^/")]


class SettingsError(Exception):
    """The settings cannot be used; says where, what and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class Listen(_Strict):
    """An address that the probe answers at."""

    address: str = "127.0.0.1"
    port: Port


class Engine(_Strict):
    """One engine on this node; `model` is a name that it answers to, `step_tokens` the longest prompt that it takes in one step."""

    name: Name
    pool: Name
    port: Annotated[int, Field(ge=1, le=65535)]
    model: Annotated[str, Field(min_length=1, max_length=256)]
    token_deadline_seconds: Seconds
    restart_after_seconds: Seconds
    step_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192


class Restarts(_Strict):
    """Restarts of a hung engine: at most so many within the window; then it stays out. 0: never."""

    at_most: Annotated[int, Field(ge=0, le=1000)] = 3
    window_seconds: Seconds = 3600


class Settings(_Strict):
    """stall_seconds: how long nothing may move beyond the longest step. idle_seconds: from one question to an idle engine to the next."""

    node: Annotated[str, Field(min_length=1, max_length=253)]
    version: str = Field(default="none", description="What the page calls these settings, to prove that they are used")
    agent: Listen
    metrics: Listen
    directory: Directory = Field(description="Where requests for a restart and what has to survive one's own are kept")
    dumps: Directory | None = Field(default=None, description="Where stack dumps are kept; none: no dumps")
    unit: Annotated[str, Field(pattern=r"^[a-zA-Z0-9:_.@-]*\{engine\}[a-z.]*$")] = "vllm@{engine}.service"
    stall_seconds: Seconds = 3.0
    idle_seconds: Seconds = 5.0
    restarts: Restarts = Restarts()
    engines: Annotated[tuple[Engine, ...], Field(max_length=64)]


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
