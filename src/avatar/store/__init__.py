"""Conversations that outlive the process: the database and the recordings.

`Store` is the whole of it; what goes in and comes out are the frozen records.
"""

from avatar.store.records import (
    Conversation,
    Hit,
    InputKind,
    Page,
    Recording,
    Side,
    Turn,
    TurnRecord,
    TurnStatus,
    new_id,
)
from avatar.store.store import Store

__all__ = [
    "Conversation",
    "Hit",
    "InputKind",
    "Page",
    "Recording",
    "Side",
    "Store",
    "Turn",
    "TurnRecord",
    "TurnStatus",
    "new_id",
]
