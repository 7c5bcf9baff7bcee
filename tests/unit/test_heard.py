"""From played samples to heard text."""

from hypothesis import given
from hypothesis import strategies as st

from avatar.core.clauses import ClauseCutter
from avatar.core.heard import HeardText

RATE = 10  # samples a spoken character


def speak(text: str) -> HeardText:
    """As if an engine spoke `text` with a mark after each word, ten samples a character."""
    heard, cutter = HeardText(), ClauseCutter()
    heard.add_text(text)
    place = 0
    for clause in [*cutter.push(text), *cutter.flush()]:
        heard.add_clause(clause)
        for index, char in enumerate(clause.spoken + " ", start=1):
            if char == " ":
                end = place + min(index, len(clause.spoken))
                heard.add_marks([(end, end * RATE)])
        place += len(clause.spoken)
    return heard


def test_nothing_played_is_nothing_heard() -> None:
    assert speak("Hello there.").until(0) == ""


def test_a_word_counts_when_it_has_been_spoken_whole() -> None:
    heard = speak("Hello there. How are you?")
    assert heard.until(5 * RATE) == ""
    assert heard.until(6 * RATE) == "Hello"
    assert heard.until(12 * RATE) == "Hello there."
    assert heard.until(16 * RATE) == "Hello there. How"
    assert heard.until(10_000) == "Hello there. How are you?"


def test_markdown_that_is_not_spoken_still_counts_in_the_text() -> None:
    heard = speak("**Yes** it is. No.")
    assert heard.until(4 * RATE) == "**Yes**"
    assert heard.until(10 * RATE) == "**Yes** it is."


@given(st.text(alphabet="ab .,!?*\n好，。", max_size=60), st.integers(0, 700), st.integers(0, 700))
def test_what_was_heard_is_a_prefix_and_grows(text: str, first: int, second: int) -> None:
    heard = speak(text)
    shorter, longer = heard.until(min(first, second)), heard.until(max(first, second))
    assert text.startswith(shorter)
    assert longer.startswith(shorter)
