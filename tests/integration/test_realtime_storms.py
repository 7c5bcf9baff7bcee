"""Ten thousand events, good and bad: `/v1/realtime` answers each and lives; what it sends back stays grammatical."""

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from avatar.conversation.admission import SessionManager
from avatar.core.audio import float_to_pcm16
from avatar.engines.base import ToolCall
from tests import realtime_grammar
from tests.integration.openai_client import talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import tone

SEEDS, STORMS, EVENTS = 4, 50, 50
"""10,000 events in all."""
AT_ONCE = 4
MAX_SESSIONS = 2 * AT_ONCE
"""A session keeps its place until its last turns are saved, and others may see the same one become free."""
LULL_EVERY, LULL_S = 10, 0.05
"""So that responses come to their end, too."""

LOUD, QUIET = (base64.b64encode(float_to_pcm16(tone(level, 200))).decode() for level in (0.3, 0.0))
IDS = st.sampled_from(["a", "b", "c", "root", "a" * 65])
TEXT_PART = {"type": "input_text", "text": "Hello."}


@dataclass(frozen=True)
class Shot:
    """What is sent, and whether it must be refused, whatever the state of the session; else that depends."""

    event: Any
    is_bad: bool = False


def item(**fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [TEXT_PART], **fields}


ITEMS = st.sampled_from(
    [
        Shot(item()),
        Shot(item(content=[{"type": "input_audio", "audio": LOUD}])),
        Shot(item(content=[{"type": "input_audio", "audio": "?"}]), is_bad=True),
        Shot(item(role="assistant", content=[{"type": "output_text", "text": "Hi."}])),
        Shot(item(role="assistant"), is_bad=True),
        Shot({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        Shot({"type": "function_call_output", "call_id": "c", "output": "1"}),
        Shot({"type": "function_call_output", "call_id": "never", "output": "1"}, is_bad=True),
        Shot({"type": "mcp_approval_response", "approval_request_id": "never", "approve": True}, is_bad=True),
        Shot(item(role="nobody"), is_bad=True),
    ]
)
TOOLS = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("f", "g")]
DETECTIONS = st.sampled_from([None, {"type": "semantic_vad"}, {"type": "server_vad", "silence_duration_ms": 100}])
PATCHES = st.one_of(
    st.builds(lambda detection: Shot({"audio": {"input": {"turn_detection": detection}}}), DETECTIONS),
    st.sampled_from(["text", "audio"]).map(lambda modality: Shot({"output_modalities": [modality]})),
    st.sampled_from(["audio/pcmu", "audio/pcm"]).map(
        lambda form: Shot({"audio": {"input": {"format": {"type": form}}}})
    ),
    st.sampled_from([TOOLS, TOOLS, []]).map(lambda tools: Shot({"tools": tools})),
    st.just(Shot({"audio": {"input": {"transcription": {"model": "any"}}}})),
    st.sampled_from(
        [
            {"tools": [{"type": "mcp", "server_label": "x"}]},
            {"audio": {"input": {"turn_detection": {"type": "x"}}}},
            {"output_modalities": [7]},
            {"output_modalities": []},
            {"audio": {"output": {"voice": "nobody"}}},
            {"tool_choice": {"type": "function", "name": "none"}},
            {"type": "other"},
        ]
    ).map(lambda patch: Shot(patch, is_bad=True)),
)
WISHES = st.sampled_from(
    [
        Shot({}),
        Shot({"conversation": "none", "input": [], "metadata": {"a": "b"}}),
        Shot({"tools": TOOLS, "parallel_tool_calls": False, "output_modalities": ["text"]}),
        Shot({"input": [{"type": "item_reference", "id": "a"}]}),
        Shot({"input": [{"type": "item_reference", "id": "never"}]}, is_bad=True),
        Shot({"metadata": {"a": 1}}, is_bad=True),
        Shot({"max_output_tokens": 0}, is_bad=True),
    ]
)


def event(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, **fields}


UPDATES = PATCHES.map(
    lambda patch: Shot(event("session.update", session={"type": "realtime"} | patch.event), patch.is_bad)
)
SOUNDS = st.sampled_from([LOUD, LOUD, QUIET, QUIET, "?"]).map(
    lambda audio: Shot(event("input_audio_buffer.append", audio=audio), audio == "?")
)
BARE = st.sampled_from(
    ["input_audio_buffer.commit", "input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"]
).map(lambda type_: Shot(event(type_)))
NEW_ITEMS = st.builds(
    lambda made, id_, before: Shot(
        event("conversation.item.create", item={**made.event, "id": id_}, previous_item_id=before),
        made.is_bad or len(id_ or "") > 64 or len(before or "") > 64,
    ),
    ITEMS,
    st.one_of(st.none(), IDS),
    st.one_of(st.none(), IDS),
)
OLD_ITEMS = st.builds(
    lambda what, id_: Shot(event(f"conversation.item.{what}", item_id=id_), len(id_) > 64),
    st.sampled_from(["retrieve", "delete"]),
    IDS,
)
CUTS = st.builds(
    lambda id_, end_ms: Shot(
        event("conversation.item.truncate", item_id=id_, content_index=0, audio_end_ms=end_ms), end_ms < 0
    ),
    IDS,
    st.integers(-1, 2000),
)
RESPONSES = WISHES.map(lambda wish: Shot(event("response.create", response=wish.event), wish.is_bad))
GOOD_OR_NOT = st.sampled_from(
    [UPDATES, SOUNDS, SOUNDS, SOUNDS, BARE, NEW_ITEMS, NEW_ITEMS, OLD_ITEMS, CUTS, RESPONSES, RESPONSES]
).flatmap(lambda kind: kind)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Shot:
    """An event with a field too many, a field of another type, or of a type that there is not."""
    told = dict(draw(GOOD_OR_NOT).event)
    match draw(st.sampled_from(["unknown field", "wrong type", "no type", "unknown type", "foreign"])):
        case "unknown field":
            told[draw(st.text(min_size=1, max_size=8)) + "?"] = draw(JUNK)
        case "wrong type":
            name = draw(st.sampled_from(sorted(told)))
            told[name] = [[draw(JUNK)]]
        case "no type":
            del told["type"]
        case "unknown type":
            told["type"] = draw(JUNK.filter(lambda junk: not isinstance(junk, str) or "." not in junk))
        case _:
            told["type"] = draw(st.sampled_from(["output_audio_buffer.clear", "session.created", "response.done"]))
    return Shot(told, is_bad=True)


NO_OBJECTS = st.one_of(JUNK.filter(lambda junk: not isinstance(junk, dict)), st.just("[" * 100_000)).map(
    lambda junk: Shot(junk, is_bad=True)
)
SHOTS = st.sampled_from([GOOD_OR_NOT] * 8 + [spoilt(), NO_OBJECTS]).flatmap(lambda kind: kind)

ANSWERS = {
    "session.update": "session.updated",
    "input_audio_buffer.clear": "input_audio_buffer.cleared",
    "conversation.item.retrieve": "conversation.item.retrieved",
    "conversation.item.delete": "conversation.item.deleted",
    "conversation.item.truncate": "conversation.item.truncated",
}
"""What each that is not refused is answered by, and nothing else is."""
AT_LEAST = {
    "conversation.item.create": "conversation.item.added",
    "response.create": "response.created",
    "response.cancel": "response.done",
}
"""What also comes unasked."""


def storms(seed: int) -> list[list[Shot]]:
    made: list[list[Shot]] = []

    @settings(
        max_examples=STORMS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(SHOTS, min_size=EVENTS + seed, max_size=EVENTS + seed))
    def collect(storm: list[Shot]) -> None:
        made.append(storm[:EVENTS])

    collect()
    return made


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_storm_of_events(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    waiting = storms(seed)
    assert sum(len(storm) for storm in waiting) == 10_000 // SEEDS
    places = {"max_sessions": MAX_SESSIONS}
    async with talking_openai(tmp_path, admission=places) as talk, aiohttp.ClientSession() as http:
        talk.fakes.llm.token_s = 0.005 * seed
        talk.fakes.llm.calls = [ToolCall(f"call_{name}", name, '{"a": 1}') for name in ("f", "g")]
        talk.fakes.llm.piece_chars = 1
        talk.fakes.tts.ms_per_char = 4
        url = talk.server.url.replace("http", "ws") + "/v1/realtime"
        next_ = iter(waiting)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(survive_all(http, url, next_, talk.server.service.sessions))
        await settled(lambda: talk.server.service.sessions.active == 0)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def survive_all(
    http: aiohttp.ClientSession, url: str, waiting: Iterator[list[Shot]], sessions: SessionManager
) -> None:
    for storm in waiting:
        await settled(lambda: sessions.active < AT_ONCE)
        async with http.ws_connect(url) as socket:
            answered(storm, await weather(socket, storm))


async def weather(socket: aiohttp.ClientWebSocketResponse, storm: list[Shot]) -> list[dict[str, Any]]:
    """Send all of it; what came, up to the answer to a last event."""
    events: list[dict[str, Any]] = []
    for number, shot in enumerate(storm):
        if number % LULL_EVERY == 0:
            await asyncio.sleep(LULL_S)
        if isinstance(shot.event, dict):
            await socket.send_str(json.dumps(shot.event | {"event_id": f"e{number}"}))
        else:
            await socket.send_str(shot.event if isinstance(shot.event, str) else json.dumps(shot.event))
    await socket.send_str(json.dumps(event("conversation.item.retrieve", item_id="x", event_id="last")))
    while not (events and events[-1]["type"] == "error" and events[-1]["error"]["event_id"] == "last"):
        events.append(json.loads((await socket.receive(10)).data))
    return events


def answered(storm: list[Shot], events: list[dict[str, Any]]) -> None:
    """Each bad event was refused by its id, each other was refused or answered, and all is in order."""
    realtime_grammar.check(events, ended=False)
    refused = Counter(told["error"]["event_id"] for told in events if told["type"] == "error")
    assert max(count for id_, count in refused.items() if id_ is not None) == 1
    nameless = [shot for shot in storm if not isinstance(shot.event, dict)]
    assert refused[None] >= len(nameless)
    taken: Counter[str] = Counter()
    for number, shot in enumerate(storm):
        if not isinstance(shot.event, dict):
            continue
        if not refused[f"e{number}"]:
            assert not shot.is_bad, f"{shot.event} was not refused"
            taken[shot.event["type"]] += 1
    came = Counter(told["type"] for told in events)
    for type_, answer in ANSWERS.items():
        assert came[answer] == taken[type_], answer
    for type_, answer in AT_LEAST.items():
        assert came[answer] >= taken[type_], answer
