"""A set of reference prompts is read as a whole, and every mistake in it is named with its place."""

from pathlib import Path

import pytest
from rackserve.canary.quality.read import PromptsError, read

GOOD = """\
prompts:
  - name: one
    messages:
      - {role: user, content: "One?"}
  - name: two
    messages:
      - {role: system, content: "Be brief."}
      - {role: user, content: "Two?"}
    stop: ["three"]
  - name: three
    max_tokens: 8
    messages:
      - {role: user, content: "Three?"}
  - name: four
    determinate: true
    messages:
      - {role: user, content: "Four?"}
texts:
  - name: first
    text: "A sentence that is long enough to have some tokens."
  - name: second
    text: "Another one, which is long enough as well, I hope."
"""


def problems(folder: Path, text: str) -> list[str]:
    file = folder / "prompts.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PromptsError) as caught:
        read(file)
    assert caught.value.exit_code == 2
    return [" ".join(str(one).replace(str(file), "FILE").split()) for one in caught.value.problems]


def test_a_good_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yml"
    file.write_text(GOOD, encoding="utf-8")
    found = read(file)
    assert [one.name for one in found.prompts] == ["one", "two", "three", "four"]
    assert (found.prompts[1].stop, found.prompts[2].max_tokens, found.prompts[3].determinate) == (("three",), 8, True)
    assert len(found.texts) == 2


def test_the_shipped_set_has_every_kind_of_question() -> None:
    found = read()
    roles = {tuple(message.role for message in one.messages) for one in found.prompts}
    assert {("user",), ("system", "user")} < roles
    assert any("assistant" in turns for turns in roles)
    assert any(one.stop for one in found.prompts)
    assert sum(one.determinate for one in found.prompts) >= 5
    said = "".join(message.content for one in found.prompts for message in one.messages)
    assert any(ord(character) > 0xFFFF for character in said), "characters of four bytes"
    assert any("\u4e00" <= character <= "\u9fff" for character in said)
    assert "def " in said
    assert any(character.isdigit() for character in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("role: system", "role: sistem"),
         'FILE:7: prompts[1].messages[0].role: is not one of the allowed values; did you mean \'system\'? value: "sistem" '
         "allowed: system, user, assistant do: choose one of them"),
        (("    max_tokens: 8", "    max_token: 8"),
         "FILE:11: prompts[2].max_token: unknown key; did you mean 'max_tokens'? value: 8 "),
        (("max_tokens: 8", "max_tokens: 5000"),
         "FILE:11: prompts[2].max_tokens: is outside the allowed range value: 5000 allowed: from 1 up to 1024 "),
        (("max_tokens: 8", 'max_tokens: "8"'),
         'FILE:11: prompts[2].max_tokens: is text, not a whole number value: "8" '),
        (("name: two", "name: Two Prompts"), 'FILE:5: prompts[1].name: has characters or a length that are not allowed'),
        (('content: "Four?"', "content: 4"), 'FILE:17: prompts[3].messages[0].content: is a whole number, not text value: 4 '),
        (('content: "Four?"', 'content: ""'), "FILE:17: prompts[3].messages[0].content: "),
        (("role: user, content: \"Two?\"", "role: assistant, content: \"Two\""),
         "FILE:5: prompts[1]: the turns are system, assistant "),
        (("name: two", "name: one"), "FILE: prompts has two entries named 'one' allowed: each name once "),
        (("name: second", "name: first"), "FILE: texts has two entries named 'first' "),
        (('"Another one, which is long enough as well, I hope."', '"Short."'),
         'FILE:22: texts[1].text: has 6 characters value: "Short." allowed: at least 40'),
        (("texts:", "text:"), "FILE:18: text: unknown key; did you mean 'texts'?"),
        (("prompts:", "prompts: {"), "FILE:2: is not valid YAML: "),
        (("    max_tokens: 8", "    max_tokens: 8\n    max_tokens: 9"),
         "FILE:12: prompts[2].max_tokens: is written twice; the first is in line 11 "),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_key_value_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    assert GOOD.count(change[0]) == 1
    found = problems(tmp_path, GOOD.replace(*change))
    assert any(one.startswith(said) for one in found), "\n".join(found)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("role: system", "role: boss").replace("max_tokens: 8", "max_tokens: 0")
    assert len(problems(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is missing"),
        ("- one\n- two\n", "FILE:1: is not a mapping"),
        ("$ANSIBLE_VAULT;1.1;AES256\n62\n", "FILE: is encrypted"),
        (GOOD[: GOOD.index("  - name: four")] + GOOD[GOOD.index("texts:") :], "FILE: prompts has 3 entries allowed: at least 4"),
    ],
    ids=["empty", "list", "vault", "too few"],
)  # fmt: skip
def test_a_file_that_is_no_set_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in one for one in problems(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptsError, match=r"absent\.yml: cannot be read: .*No such file"):
        read(tmp_path / "absent.yml")
