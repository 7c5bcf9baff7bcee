"""Ids and records: what may name a file, and what may show in a log."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.errors import BadMessage
from avatar.store import TurnRecord, new_id
from avatar.store.records import is_id


def test_ids_are_fresh_and_url_safe() -> None:
    ids = {new_id("turn") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(id_, "turn") and not is_id(id_, "conv") for id_ in ids)


@pytest.mark.parametrize(
    "id_", ["", "turn_", "turn_../../../../etc/passwd", "turn_" + "a" * 21 + "\n", "turn_" + "é" * 22]
)
def test_nothing_else_is_an_id(id_: str) -> None:
    assert not is_id(id_, "turn")
    with pytest.raises(BadMessage):
        TurnRecord(conversation_id=new_id("conv"), id=id_, input_kind="text", status="completed")


@given(st.text())
def test_an_id_never_leaves_its_folder(id_: str) -> None:
    assert not is_id(id_, "conv") or not set(id_) & set("/\\.\0")


def test_repr_shows_nothing_that_was_said() -> None:
    record = TurnRecord(
        conversation_id=new_id("conv"),
        input_kind="speech",
        status="completed",
        user_text="secret",
        generated_text="secret",
        heard_text="secret",
        user_audio=(np.full(3, 0.1234, np.float32), 16_000),
    )
    assert "secret" not in repr(record)
    assert "0.1234" not in repr(record)
