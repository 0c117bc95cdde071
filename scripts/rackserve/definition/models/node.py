"""Host variables that describe a node's hardware: each field `x` is the host variable `node_x`."""

from typing import Annotated

from pydantic import Field

from rackserve.definition.models.base import Address, Amount, Gibibytes, Port, Strict


class Node(Strict):
    """What stands in the rack."""

    address: Address = Field(description="Address in the service's network; default: ansible_host")
    gpus: Annotated[int, Field(ge=0, le=64)] = Field(default=0, description="Number of GPUs")
    gpu_memory_gib: Gibibytes | None = Field(default=None, description="Memory of each GPU")
    memory_gib: Gibibytes | None = Field(
        default=None, description="Main memory; preflight compares it with what it finds"
    )
    price: Amount | None = Field(
        default=None, description="Price of this node where it differs from service_prices.node_price"
    )
    power_watts: Amount | None = Field(
        default=None, description="Power of this node where it differs from service_prices.node_power_watts"
    )
    ssh_port: Port = Field(default=22, description="Port of ssh; taken from ansible_port, not set by hand")


PREFIX = "node_"
