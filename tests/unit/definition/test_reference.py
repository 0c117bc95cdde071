"""docs/definition.md says of every key what the models say."""

from pathlib import Path

from pydantic import BaseModel
from rackserve.definition import reference
from rackserve.definition.models import Node, Service

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/definition.md"


def test_the_reference_in_the_document_is_that_of_the_models() -> None:
    text = DOCUMENT.read_text()
    assert text == reference.with_reference(text), "run scripts/validate --write-reference"


def test_every_key_of_every_model_has_a_meaning_and_stands_in_the_document() -> None:
    text = DOCUMENT.read_text()
    models: list[type[BaseModel]] = [Service, Node, *reference._inner(Service)]
    assert len(models) > 30, "the walk over the models reaches the inner ones"
    for model in models:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name} has no description"
            assert f"{name}`" in text or name == "ssh_port", f"{model.__name__}.{name}"
