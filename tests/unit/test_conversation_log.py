"""Going on with a saved conversation."""

import threading
from dataclasses import replace
from datetime import UTC, datetime

from avatar.conversation.log import ConversationLog
from avatar.core.history import CalledTool
from avatar.store import Conversation, Turn, new_id
from tests.unit.conversation import ListStore

ID = new_id("conv")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def turn(position: int, error_code: str | None = None) -> Turn:
    return Turn(
        id=new_id("turn"),
        conversation_id=ID,
        position=position,
        created_at=NOW,
        input_kind="text",
        status="completed",
        user_text=f"question {position}",
        user_language=None,
        generated_text=f"answer {position}",
        heard_text=f"answer {position}",
        error_code=error_code,
        timings={},
        engines={},
        has_user_audio=False,
        has_reply_audio=False,
    )


class Saved(ListStore):
    async def conversation(self, conversation_id: str) -> Conversation:
        return Conversation(conversation_id, NOW, NOW, None, "", None)

    async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
        return [turn(position) for position in range(limit)]


async def test_a_long_conversation_is_counted_off_the_loop() -> None:
    threads: set[int] = set()

    def count(text: str) -> int:
        threads.add(threading.get_ident())
        return len(text.split())

    log = ConversationLog(Saved(), ID, count, {})
    await log.load()
    assert threads
    assert threading.get_ident() not in threads
    lines = log.history.prompt("", "next", 10_000)
    assert [line.content for line in lines[:2]] == ["question 0", "answer 0"]
    assert len(lines) == 401


async def test_what_was_called_is_known_again() -> None:
    class Called(Saved):
        async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
            return [replace(turn(0), calls=(CalledTool("c1", "look", "{}", "rain"),))]

    log = ConversationLog(Called(), ID, len, {})
    await log.load()
    lines = [(line.role, line.content) for line in log.history.prompt("", "next", 10_000)]
    assert lines[:4] == [("user", "question 0"), ("assistant", ""), ("tool", "rain"), ("assistant", "answer 0")]


async def test_a_turn_that_was_too_long_for_the_model_is_not_put_before_it_again() -> None:
    class TooLong(Saved):
        async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
            return [turn(0), turn(1, "BAD_MESSAGE"), turn(2, "ENGINE_FAILED")]

    log = ConversationLog(TooLong(), ID, lambda text: len(text.split()), {})
    await log.load()
    said = [line.content for line in log.history.prompt("", "next", 1000) if line.role == "user"]
    assert said == ["question 0", "question 2", "next"]


async def test_a_turn_that_another_stands_for_is_not_told_twice() -> None:
    class CarriedOn(Saved):
        async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
            return [replace(turn(0), user_text="question", superseded=True), turn(1)]

    log = ConversationLog(CarriedOn(), ID, len, {})
    await log.load()
    assert [line.content for line in log.history.prompt("", "next", 10_000)] == ["question 1", "answer 1", "next"]
