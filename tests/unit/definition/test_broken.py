"""Every broken definition of broken/*.yml: each message word by word, with file, line, key, value and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rackserve.definition.load import InventoryError, load_inventory

CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted((Path(__file__).parent / "broken").glob("*.yml"))
    for case in yaml.safe_load(file.read_text())
]


def messages(inventory: Path) -> tuple[list[str], list[str]]:
    """(problems, warnings) as an operator sees them."""
    try:
        outcome = load_inventory(inventory).outcome
    except InventoryError as error:
        return [str(problem) for problem in error.problems], []
    assert (outcome.plan is None) == bool(outcome.problems), "a plan exists exactly when there are no problems"
    return [str(problem) for problem in outcome.problems], [str(warning) for warning in outcome.warnings]


@pytest.mark.parametrize("case", CASES)
def test_broken_definition_is_refused_with_exactly_these_messages(
    case: dict[str, Any], inventory: Callable[..., Path]
) -> None:
    problems, warnings = messages(inventory(case["edit"]))
    assert "\n".join(problems) == case.get("problems", "").rstrip("\n")
    assert "\n".join(warnings) == case.get("warnings", "").rstrip("\n")


def test_the_base_of_all_cases_is_valid_and_without_warnings(inventory: Callable[..., Path]) -> None:
    assert messages(inventory({})) == ([], [])


def test_there_are_enough_cases_and_no_two_have_one_name() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names) >= 40
