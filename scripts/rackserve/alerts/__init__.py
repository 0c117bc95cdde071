"""Operational alerts as code: the definition in, Prometheus rules out, as plain data. Knows the definition only."""

from rackserve.alerts.rules import rules

__all__ = ["rules"]
