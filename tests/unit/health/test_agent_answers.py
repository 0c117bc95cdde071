"""The words that HAProxy hears."""

from hypothesis import given
from hypothesis import strategies as st
from rackserve.health.agent import answer


def test_up_is_one_word_so_that_it_changes_no_weight() -> None:
    assert answer((True, "serving: moves")) == b"up\n"


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert answer((None, "new")) == b""
    assert answer(None) == b""


@given(st.text())
def test_a_reason_stays_behind_its_sign_on_one_line(reason: str) -> None:
    """Before it, HAProxy would take words such as `ready` for orders."""
    said = answer((False, reason))
    assert said.startswith(b"down #")
    assert said.count(b"\n") == 1
    assert said.endswith(b"\n")
    assert len(said) < 128
