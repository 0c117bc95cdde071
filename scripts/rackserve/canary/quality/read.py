"""A file of reference prompts, read and checked as a whole before any engine is asked."""

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError

from rackserve.canary.quality.prompts import Reference
from rackserve.definition import wording
from rackserve.definition.files import scan_file
from rackserve.definition.problem import Path, Place, Problem, place_all

SHIPPED = FilePath(__file__).with_name("prompts.yml")


class PromptsError(Exception):
    """The file cannot be used. Carries every problem, each with file, line, key, value and what is allowed."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def read(path: FilePath | str | None = None) -> Reference:
    """The set in this file, or the shipped one. Raises PromptsError."""
    file = FilePath(path) if path is not None else SHIPPED
    whole_file = Place(str(file))
    found = scan_file(file)
    if found.encrypted:
        raise PromptsError(
            [Problem((), "is encrypted", "plain YAML", "prompts are no secrets: decrypt it", place=whole_file)]
        )
    if found.problems:
        raise PromptsError(found.problems)
    value = _plain(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    try:
        return Reference.model_validate(value)
    except ValidationError as error:
        problems = [_problem(detail, value) for detail in error.errors(include_url=False, include_input=False)]
    raise PromptsError(place_all(problems, found.places, whole_file))


def _plain(value: Any) -> Any:
    """Strict models take no list for a tuple."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return tuple(_plain(inner) for inner in value) if isinstance(value, list) else value


def _problem(detail: Any, value: Any) -> Problem:
    path: Path = wording.key_path(detail, (), value)
    if not path:
        context = detail["ctx"]
        return Problem((), context["problem"], context["allowed"], context["remedy"])
    here = value
    for part in path:
        here = wording.item(here, part)
    return wording.problem(detail, path, here, wording.beside(Reference, path, value))
