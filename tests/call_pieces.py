"""What an engine owes those who read tool calls as they are written: the law of `Delta.call_pieces`."""

import itertools
import json
from collections.abc import Sequence

from avatar.engines.base import Delta


def check_pieces(deltas: Sequence[Delta]) -> dict[str, list[str]]:
    """The pieces of an answer, by call; fails unless they are the calls that it ends in, one after the other."""
    calls = [call for delta in deltas for call in delta.tool_calls]
    pieces = [piece for delta in deltas for piece in delta.call_pieces]
    begun = [call_id for call_id, _ in itertools.groupby(piece.id for piece in pieces)]
    assert begun == [call.id for call in calls][: len(begun)]
    told = {call.id: [piece.arguments for piece in pieces if piece.id == call.id] for call in calls}
    assert {(piece.id, piece.name) for piece in pieces} <= {(call.id, call.name) for call in calls}
    assert all(call.arguments.startswith("".join(told[call.id])) for call in calls)
    assert all(json.loads("".join(told[call_id])) is not None for call_id in begun[:-1])
    return told
