"""A test twin links the files of the inventory that it stands for, and declares everything that it sets otherwise."""

from collections.abc import Iterator

from rackserve.definition import wording
from rackserve.definition.models.service import PREFIX
from rackserve.definition.problem import Problem
from rackserve.definition.raw import Raw, Unreadable

_NAME = f"{PREFIX}overrides"


def overrides_are_declared(raw: Raw) -> Iterator[Problem]:
    """What differs is listed, and what is listed differs. An inventory without linked files has no overrides."""
    declared = raw.variables.get(_NAME, ())
    if isinstance(declared, Unreadable) or not isinstance(declared, tuple):
        return
    own = {name for name in raw.variables if name.startswith(PREFIX) and name != _NAME and name not in raw.shared}
    if not raw.shared:
        if declared:
            yield Problem(
                (_NAME,),
                "this inventory shares no file with another one, so nothing is overridden",
                "only in a twin with linked files",
                "remove it",
            )
        return
    for name in sorted(own - set(declared)):
        yield Problem(
            (name,),
            f"is set otherwise than in the shared definition, but is not declared in {_NAME}",
            "variables of the shared definition, or those listed in service_overrides",
            f"add {name} to {_NAME}, or set it in the shared definition",
        )
    for number, name in enumerate(declared):
        if name not in own:
            near = wording.nearest(str(name), own)
            yield Problem(
                (_NAME, number),
                "is listed here but not set by this inventory" + (f"; did you mean {near!r}?" if near else ""),
                ", ".join(sorted(own)),
                "remove it from the list, or set the variable",
                f'"{name}"',
            )
