"""What survives a restart of the probe."""

from pathlib import Path

import pytest
from rackserve.health import keep
from rackserve.health.looks import Memory, State, WarmUp


def test_what_was_measured_restarts_and_the_hang_come_back(tmp_path: Path) -> None:
    hung = Memory(state=State.HUNG, since=12.5, started=1.5, warm=WarmUp(0.1, 0.7), restarts=(3.0, 9.0))
    well = Memory(state=State.SERVING, since=4.0, started=2.5, moved=11.0, warm=WarmUp(0.2, None))
    keep.write(tmp_path, keep.text({"a": hung, "b": well}))
    found = keep.read(tmp_path)
    assert found["a"] == hung
    assert found["b"] == Memory(started=2.5, warm=WarmUp(0.2, None)), "whether it is well has to be seen anew"


def test_no_file_is_nothing_known(tmp_path: Path) -> None:
    assert keep.read(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": {"restarts": [-1]}}', '{"a": {"other": 1}}', '{"a": {"started": NaN}}']
)
def test_a_file_of_nonsense_is_an_error_and_not_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(keep.Unreadable, match=r"state\.json"):
        keep.read(tmp_path)
