"""What the schema knows but this version does not act on: said aloud, because operators rely on limits they have set.

The schema is complete from the start, so that names never change; the entries here go as the behaviour comes.
"""

from collections.abc import Iterator

from rackserve.definition.models.tenant import Tenant
from rackserve.definition.problem import Path, Problem, key_text
from rackserve.definition.read import Definition


def protections_are_in_effect(definition: Definition) -> Iterator[Problem]:
    """One warning with every key that is set but not acted on."""
    found = [key_text(path) for path in _idle(definition)]
    if found:
        shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        yield Problem(
            (),
            f"checked, but not acted on by this version: {shown}",
            remedy="do not rely on it; see docs/definition.md, part 'What is in effect'",
            severity="warning",
        )


def _idle(definition: Definition) -> Iterator[Path]:
    for name, tenant in definition.service.tenants.items():
        yield from (("service_tenants", name, key) for key in _idle_of_tenant(tenant))


def _idle_of_tenant(tenant: Tenant) -> Iterator[str]:
    yield from (key for key in ("budget",) if key in tenant.model_fields_set)
