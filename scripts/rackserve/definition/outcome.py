"""The one validator: plain values in, problems or a plan out. Pure, so that Ansible and every script use the same."""

from dataclasses import dataclass
from typing import Any

from rackserve.definition.checks import CHECKS
from rackserve.definition.plan import plan
from rackserve.definition.problem import Place, Problem, place_all
from rackserve.definition.raw import Raw
from rackserve.definition.read import Definition, read
from rackserve.definition.twin import overrides_are_declared


@dataclass(frozen=True)
class Outcome:
    """`plan` and `definition` are None when there are problems."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    plan: dict[str, Any] | None
    definition: Definition | None = None


def validate(raw: Raw) -> Outcome:
    """Every problem at once: of reading, of form, and between the parts."""
    definition, found = read(raw)
    found = (*raw.problems, *found, *overrides_are_declared(raw))
    if definition is not None:
        found = (*found, *(problem for check in CHECKS for problem in check(definition)))
    placed = place_all(found, raw.places, Place(raw.source))
    problems = tuple(problem for problem in placed if problem.severity == "error")
    warnings = tuple(problem for problem in placed if problem.severity == "warning")
    if problems or definition is None:
        return Outcome(problems, warnings, None)
    return Outcome((), warnings, plan(definition, [warning.lines()[0] for warning in warnings]), definition)
