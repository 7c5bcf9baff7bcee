"""Search against its law, on a real index: a text is found exactly if it has every word of the query."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, delete, insert, select

from avatar.store.database import upgrade
from avatar.store.search import containing, excerpt, words_of
from avatar.store.tables import conversations

_TEXT = st.text(st.sampled_from("abAB天气好%_\"'*-/:^(){} \\"), max_size=12)
_THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    path: Path = tmp_path_factory.mktemp("search") / "avatar.db"
    upgrade(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _found(db: Connection, titles: list[str], query: str) -> list[str]:
    db.execute(delete(conversations))
    for number, title in enumerate(titles):
        row = {"id": str(number), "title": title, "created_at": _THEN, "updated_at": _THEN}
        db.execute(insert(conversations).values(row))
    condition = containing(conversations, ("title",), words_of(query))
    return list(db.scalars(select(conversations.c.title).where(condition).order_by(conversations.c.number)))


@given(st.lists(_TEXT, max_size=4), _TEXT.filter(str.strip))
def test_found_exactly_if_every_word_occurs(db: Connection, titles: list[str], query: str) -> None:
    expected = [title for title in titles if all(word.lower() in title.lower() for word in query.split())]
    assert _found(db, titles, query) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(words_of))
def test_any_query_is_only_a_query(db: Connection, query: str) -> None:
    _found(db, ["你好 hello"], query)


@pytest.mark.parametrize("query", ["天", "天气", "今天天气", "BERLIN", "天气 berl", "气怎 in"])
def test_chinese_needs_no_spaces(db: Connection, query: str) -> None:
    assert _found(db, ["今天天气怎么样 in Berlin", "别的"], query) == ["今天天气怎么样 in Berlin"]


def test_an_excerpt_shows_the_word_in_its_surroundings() -> None:
    text = "before " * 20 + "the\nneedle lies " + "after " * 20
    shown = excerpt(["nothing here", text], ["NEEDLE"])
    assert "before the needle lies after" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) < 100


def test_an_excerpt_of_a_short_text_is_the_text() -> None:
    assert excerpt(["今天天气怎么样"], ["天气"]) == "今天天气怎么样"


@given(st.lists(st.text(), min_size=1), st.lists(st.text(min_size=1), min_size=1))
def test_an_excerpt_always_exists(texts: list[str], words: list[str]) -> None:
    assert len(excerpt(texts, words)) <= 82 + max(map(len, words))
