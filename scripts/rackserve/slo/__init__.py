"""SLOs as code: service_slos in, Prometheus rules out, as plain data. Knows the definition only."""

from rackserve.slo.buckets import edges, le, reply_classes
from rackserve.slo.rules import rules

__all__ = ["edges", "le", "reply_classes", "rules"]
