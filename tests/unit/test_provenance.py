"""What responses say of synthetic speech."""

from typing import Literal
from urllib.parse import unquote

import numpy as np
import pytest

from avatar.conversation.voices import Choice, Speech
from avatar.server.provenance import NOTICE, PROVENANCE, Provenance


@pytest.mark.parametrize(
    ("marks", "cloned", "is_marked"),
    [("off", True, False), ("cloned", True, True), ("cloned", False, False), ("all", False, True)],
)
async def test_the_mark_is_where_the_header_says(
    marks: Literal["off", "cloned", "all"], cloned: bool, is_marked: bool
) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    speech = Speech(pcm, 24_000, Choice("voice_x" if cloned else None, cloned), "fake")
    provenance = Provenance(marks)
    marked = await provenance.mark(speech)
    assert (marked.pcm is not pcm) == is_marked
    assert f"watermark=?{int(is_marked)}" in provenance.headers("fake", speech.choice)[PROVENANCE]


def test_headers_are_ascii_whatever_the_names() -> None:
    told = Provenance().headers('引擎 "x"\r\nSet-Cookie: a', Choice(None, notice="The voice “玛丽” is away."))
    assert all(value.isascii() and "\n" not in value for value in told.values())
    assert unquote(told[NOTICE]) == "The voice “玛丽” is away."
    assert told[PROVENANCE].count('"') == 4
