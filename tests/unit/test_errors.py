"""The error tree: every code of the wire, and nothing of a stray error's text."""

import re

import pytest

from avatar.core import errors
from avatar.core.errors import AvatarError, describe

WIRE_CODES = {
    *"SERVER_FULL GPU_MEMORY UNAUTHORIZED RATE_LIMITED BAD_MESSAGE BAD_AUDIO BUFFER_LIMIT NO_SPEECH".split(),
    *"ENGINE_FAILED ENGINE_TIMEOUT NOT_FOUND VOICE_NOT_READY NOT_SAVED CONFLICT UNSUPPORTED".split(),
}


def tree() -> list[type[AvatarError]]:
    """Every error of `core/errors.py`; other parts have some of their own below `SetupError`."""
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AvatarError)]
    assert len(found) > 10
    return found


def test_all_of_the_tree_is_drawn() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in tree()} - {"AvatarError"}


def test_every_code_of_the_wire_has_an_error() -> None:
    assert {kind.code for kind in tree()} - {"SETUP"} == WIRE_CODES


@pytest.mark.parametrize("kind", tree())
def test_the_drawing_at_the_top_is_true(kind: type[AvatarError]) -> None:
    assert errors.__doc__ is not None
    line = next((line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in line + " "), None)
    assert line is not None
    if any(code in line for code in WIRE_CODES):
        assert kind.code in line
        assert str(kind.http_status) in line
        assert kind.fatal == ("fatal" in line)


def test_a_stray_error_tells_nothing_of_itself() -> None:
    problem = describe(ValueError("/home/someone/secret"))
    assert problem.code == "ENGINE_FAILED"
    assert "secret" not in problem.message
    assert problem.http_status == 500
