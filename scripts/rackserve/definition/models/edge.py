"""The door: TLS, virtual address, limits on reading a request, and routes that depart from the model's name."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rackserve.definition.models.base import AbsolutePath, Address, Count, Name, Seconds, ServedName, Strict, refuse


class VirtualAddress(Strict):
    """An address that the balancers pass to each other (keepalived, unicast)."""

    address: Address = Field(description="The address that clients use")
    prefix_length: Annotated[int, Field(ge=1, le=128)] = Field(description="Length of its network's prefix")
    router_id: Annotated[int, Field(ge=1, le=255)] = Field(
        default=51, description="VRRP router id, unique in the network"
    )
    interface: str | None = Field(
        default=None, description="Network interface; default: the one that holds the node's address"
    )


class Tls(Strict):
    """TLS at the balancers."""

    certificate: Literal["lab_ca", "supplied"] = Field(
        description="lab_ca makes one for the lab; supplied takes your files"
    )
    chain: AbsolutePath | None = Field(
        default=None, description="With supplied: certificate and chain (PEM) on the machine that runs Ansible"
    )
    key_variable: str | None = Field(
        default=None, description="With supplied: name of the vault variable that holds the private key (PEM)"
    )
    minimum_version: Literal["1.2", "1.3"] = Field(default="1.2", description="Oldest accepted TLS version")

    @model_validator(mode="after")
    def _supplied_has_files(self) -> "Tls":
        given = [key for key in ("chain", "key_variable") if getattr(self, key) is not None]
        wanted = ["chain", "key_variable"] if self.certificate == "supplied" else []
        if given != wanted:
            raise refuse(
                f"certificate {self.certificate} does not fit the keys given",
                "chain and key_variable with supplied; neither with lab_ca",
            )
        return self


class Edge(Strict):
    """Limits before a request is understood."""

    header_seconds: Seconds = Field(default=10, description="A client has to send its headers within this time")
    body_seconds: Seconds = Field(default=30, description="A client has to send its body within this time")
    body_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = Field(
        default=1_048_576, description="Largest request body"
    )
    header_bytes: Annotated[int, Field(ge=1024, le=65_536)] = Field(
        default=16_384, description="Largest headers, the address included"
    )
    connections_per_address: Count | None = Field(
        default=None, description="Connections of one client address; default: no limit"
    )


class Route(Strict):
    """Requests that match everything given go to `pool`, whichever pool their model name belongs to."""

    name: Name = Field(description="Name of the route in logs")
    pool: Name = Field(description="The pool that serves them; it must accept the lane")
    names: tuple[ServedName, ...] = Field(default=(), description="Model names; default: all")
    lanes: tuple[Name, ...] = Field(default=(), description="Lanes; default: all")
    prompt_tokens_over: Count | None = Field(default=None, description="Only prompts estimated longer than this")
    stream: bool | None = Field(default=None, description="Only streams (true) or only plain answers (false)")
