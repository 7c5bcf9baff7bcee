"""What is said aloud of a written text."""

import pytest

from avatar.core.spoken import to_spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Bold** and *soft* `code` ~~gone~~", "Bold and soft code gone"),
        ("## Title", "Title"),
        ("- item one", "item one"),
        ("> quoted", "quoted"),
        ("See [our site](https://a.example/x?y=1).", "See our site."),
        ("Go to https://www.example.com/long/path now", "Go to example.com now"),
        ("Great 😀👍🏽! 🇫🇷", "Great !"),
        ("a | b", "a b"),
        ("3 * 4 and snake_case", "3 * 4 and snake_case"),
        ("<b>hi</b> 2 < 3", "hi 2 < 3"),
        ("很好👌，继续", "很好，继续"),
        ("...", ""),
        ("🎉", ""),
        ("|---|:--|", ""),
        ("", ""),
    ],
)
def test_spoken(written: str, spoken: str) -> None:
    assert to_spoken(written)[0] == spoken
