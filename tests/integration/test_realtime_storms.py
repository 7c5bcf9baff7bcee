"""Whatever a client sends, `/v1/realtime` answers and lives; what it sends back stays grammatical."""

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from avatar.core.audio import float_to_pcm16
from tests import realtime_grammar
from tests.integration.openai_client import talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import tone

LOUD, QUIET = (base64.b64encode(float_to_pcm16(tone(level, 600))).decode() for level in (0.3, 0.0))
IDS = st.sampled_from(["a", "b", "c", "root", ""])
ITEMS = st.sampled_from(
    [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": LOUD}]},
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "message", "role": "nobody"},
    ]
)
DETECTIONS = st.sampled_from(
    [None, {"type": "semantic_vad"}, {"type": "server_vad", "silence_duration_ms": 100}, {"type": "x"}]
)
SESSIONS = st.one_of(
    st.builds(lambda detection: {"audio": {"input": {"turn_detection": detection}}}, DETECTIONS),
    st.sampled_from(["text", "audio", 7]).map(lambda modality: {"output_modalities": [modality]}),
    st.sampled_from(["audio/pcmu", "audio/pcm"]).map(lambda form: {"audio": {"input": {"format": {"type": form}}}}),
    st.just({"audio": {"input": {"transcription": {"model": "any"}}}}),
    st.just({"tools": [{"type": "mcp", "server_label": "x"}]}),
)
EVENTS = st.one_of(
    st.builds(lambda patch: {"type": "session.update", "session": {"type": "realtime", **patch}}, SESSIONS),
    st.sampled_from([LOUD, LOUD, QUIET, QUIET, "?", "YQ=="]).map(
        lambda audio: {"type": "input_audio_buffer.append", "audio": audio}
    ),
    st.sampled_from(
        [
            {"type": f"input_audio_buffer.{what}"} for what in ("commit", "clear")
        ] + [{"type": "response.cancel"}, {"type": "response.create"}, {"type": "output_audio_buffer.clear"}, {}]
    ),
    st.builds(
        lambda item, id_, before: {
            "type": "conversation.item.create", "item": {**item, "id": id_}, "previous_item_id": before
        },
        ITEMS, IDS, st.one_of(st.none(), IDS),
    ),
    st.builds(
        lambda what, id_: {"type": f"conversation.item.{what}", "item_id": id_},
        st.sampled_from(["retrieve", "delete", "truncate"]), IDS,
    ),
    st.just({"type": "response.create", "response": {"conversation": "none", "input": [], "metadata": {"a": "b"}}}),
    st.just({"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "a"}]}}),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_events(tmp_path: Path, seed: int) -> None:
    storms: list[list[dict[str, Any]]] = []

    @settings(
        max_examples=25, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(EVENTS, min_size=10 + seed, max_size=40))
    def collect(storm: list[dict[str, Any]]) -> None:
        storms.append(storm)

    collect()
    async with talking_openai(tmp_path) as talk, aiohttp.ClientSession() as http:
        talk.fakes.llm.token_s = 0.005 * seed
        url = talk.server.url.replace("http", "ws") + "/v1/realtime"
        for storm in storms:
            await survive(http, url, storm)
        await settled(lambda: talk.server.service.sessions.active == 0)


async def survive(http: aiohttp.ClientSession, url: str, storm: list[dict[str, Any]]) -> None:
    events: list[dict[str, Any]] = []
    async with http.ws_connect(url) as socket:
        for number, event in enumerate(storm):
            await socket.send_str(json.dumps(event | {"event_id": f"e{number}"}))
        await socket.send_str(json.dumps({"type": "conversation.item.retrieve", "item_id": "x", "event_id": "last"}))
        while not (events and events[-1]["type"] == "error" and events[-1]["error"]["event_id"] == "last"):
            events.append(json.loads((await socket.receive(10)).data))
    realtime_grammar.check(events, ended=False)
