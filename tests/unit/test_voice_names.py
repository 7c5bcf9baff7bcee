"""Names of voices: any language, and nothing that could be taken for a path or for markup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.errors import BadMessage
from avatar.core.voices import MAX_NAME_CHARS, check_name


@given(st.text())
def test_what_is_let_through_is_harmless(text: str) -> None:
    try:
        name = check_name(text)
    except BadMessage:
        return
    assert 1 <= len(name) <= MAX_NAME_CHARS
    assert name.isprintable()
    assert not set(name) & set('/\\<>"`${}\0\n\t\u202e')
    assert ".." not in name
    assert check_name(name) == name


def test_spaces_are_tidied_and_composed_letters_are_one() -> None:
    assert check_name("  A\u030asa   O ") == "Åsa O"
    with pytest.raises(BadMessage, match="letters, digits"):
        check_name("a\u202eb")
