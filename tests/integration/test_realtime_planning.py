"""What a language model is asked in a Realtime session, when there is no room for all of it."""

from itertools import count
from pathlib import Path

from avatar.engines.base import STAGES, Message
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.items import InputText, UserMessage
from avatar.server.realtime.planning import NO_WISH, Planner
from avatar.server.realtime.session import RealtimeSession
from avatar.server.realtime.state import TalkState
from avatar.server.realtime.tool_servers import ToolServers
from avatar.service import Service
from tests.integration.serving import fake_engines, picks_of, settings_for, settled
from tests.unit.conversation import Fakes


async def test_what_words_that_may_be_wrong_leave_no_room_for_is_there_again(tmp_path: Path) -> None:
    fakes, numbers = Fakes(), count()
    fakes.llm.context_tokens = 1000
    async with (service := Service(settings_for(tmp_path), picks_of(fake_engines(fakes)))).running():
        await settled(lambda: all(service.lineup.seats[stage].state == "ready" for stage in STAGES))
        conversation = Conversation("conv", lambda kind: f"{kind}_{next(numbers)}")
        for number in range(5):
            words = InputText(type="input_text", text=f"{number} " * 60)
            conversation.create(UserMessage(content=[words]))
        servers = ToolServers(TalkState.__new__(TalkState))  # none is asked
        planner = Planner(service.house(), service.house().engines, conversation, servers)
        session = RealtimeSession(type="realtime", model="avatar")

        def asked(words: str, *, is_outlook: bool) -> list[Message]:
            course = planner.course(session, NO_WISH, is_turn=True, is_outlook=is_outlook)
            return list(course.plan.prompt(words, ()))

        everything, too_much = asked("And so?", is_outlook=True), "word " * 400
        assert "0 0" in everything[0].content
        assert "0 0" not in asked(too_much, is_outlook=True)[0].content
        assert asked("And so?", is_outlook=True) == everything
        assert "0 0" not in asked(too_much, is_outlook=False)[0].content
        assert "0 0" not in asked("And so?", is_outlook=True)[0].content  # what was left out of a reply stays so
