"""Typed, strict and frozen models of everything an operator may write. One file per topic."""

from rackserve.definition.models.node import Node
from rackserve.definition.models.service import Service

__all__ = ["Node", "Service"]
