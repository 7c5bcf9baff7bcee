"""Calls over WebRTC: an aiortc client holds conversations with a real server, over real ICE, DTLS, SCTP and Opus."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import aiohttp
import aioice.ice
import aioice.stun
import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from avatar.core.audio import float_to_pcm16, resample
from avatar.server.realtime import calls, webrtc_call
from tests import realtime_grammar
from tests.integration.openai_client import Talk, talking_alone, talking_openai
from tests.integration.realtime_client import ANSWER, HELLO, MANUAL, SERVER_VAD, SPEECH
from tests.integration.realtime_events import SPOKEN_TURN
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.integration.webrtc_client import Caller, calling, post
from tests.unit.conversation import Fakes

LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen fifteen."
KEY = "a-key-of-this-test-0123456789"
PLAYING = {"output_audio_buffer.started", "output_audio_buffer.stopped"}


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def talk(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Talk]:
    async with talking_alone(tmp_path, fakes) as talk:
        yield talk


def is_free(server: Server) -> bool:
    return server.service.sessions.active == 0


async def test_a_spoken_conversation(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        assert caller.location.startswith("/v1/realtime/calls/rtc_")
        await caller.update(**SERVER_VAD)
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped")
        told = [type_ for type_ in caller.order[3:] if type_ not in PLAYING]
        assert told == [type_ for type_ in SPOKEN_TURN if type_ != "response.output_audio.delta"]
        await asyncio.sleep(0.5)  # what the client's own buffer holds back
        assert caller.sounding_s == pytest.approx(0.05 * (len(ANSWER) - 1), abs=0.1)
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped", 2)
    assert talk.asked == [("user", "hello there"), ("assistant", ANSWER), ("user", "hello there")]


@pytest.mark.parametrize("token_s", [0.0, 0.3], ids=["all made", "being made"])
async def test_speech_over_the_reply_clears_it_and_what_was_not_heard_is_gone(talk: Talk, token_s: float) -> None:
    talk.fakes.llm.replies = LONG
    talk.fakes.llm.token_s = token_s
    async with calling(talk.server.url) as caller:
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(0.6)
        await caller.speak(SPEECH)
        cut = await caller.until("conversation.item.truncated")
        order = caller.order
        assert (
            order.index("output_audio_buffer.cleared")
            == len(order) - 1 - order[::-1].index("input_audio_buffer.speech_started") + 1
        )
        done = await caller.until("response.done")
        expected = ("completed", None) if token_s == 0 else ("cancelled", "turn_detected")
        reason = (done["response"]["status_details"] or {}).get("reason")
        assert (done["response"]["status"], reason) == expected
        assert 600 <= cut["audio_end_ms"] < 2500
        caller.send("conversation.item.retrieve", item_id=cut["item_id"])
        heard = (await caller.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        assert LONG.startswith(heard)
        if token_s == 0:
            assert len(heard) * 50 == pytest.approx(cut["audio_end_ms"], abs=50 * len(" thirteen"))
        talk.fakes.llm.token_s = 0.0
        await caller.until("response.done", 2)
        told = [message.content for message in talk.fakes.llm.requests[-1] if message.role == "assistant"]
        assert told == ([heard] if heard else [])
        await caller.until("output_audio_buffer.started", 2)
        _, page = await talk.server.get("/api/conversations")
        _, saved = await talk.server.get(f"/api/conversations/{page['items'][0]['id']}")
        assert saved["turns"][0]["heard_text"] == heard


async def test_not_a_sample_of_a_reply_is_sent_after_it_was_cleared(talk: Talk) -> None:
    talk.fakes.llm.replies = [LONG, "Yes."]
    async with calling(talk.server.url) as caller:
        caller.send("conversation.item.create", item=HELLO)
        caller.send("response.create")
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(0.5)
        caller.send("response.cancel")  # it is made already
        caller.send("output_audio_buffer.clear")
        cleared = await caller.until("output_audio_buffer.cleared")
        assert cleared["response_id"] == caller.of("response.done")[0]["response"]["id"]
        await caller.until("conversation.item.truncated")
        await asyncio.sleep(0.5)  # the client's own buffer runs dry
        sounded_s = caller.sounding_s
        assert sounded_s < 2
        await asyncio.sleep(0.5)
        assert caller.sounding_s == sounded_s
        caller.send("output_audio_buffer.clear")  # there is nothing to clear
        caller.send("response.create")
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(0.5)
        assert caller.sounding_s - sounded_s == pytest.approx(0.2, abs=0.05)
        assert [event["error"]["code"] for event in caller.of("error")] == ["response_cancel_not_active"]


async def test_who_may_not_interrupt_does_not(talk: Talk) -> None:
    talk.fakes.llm.replies = [LONG, "Yes."]
    async with calling(talk.server.url) as caller:
        await caller.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.started")
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped", 2)
        assert caller.of("output_audio_buffer.cleared") == caller.of("conversation.item.truncated") == []
        responses = [event["response_id"] for event in caller.events if event["type"] in PLAYING]
        assert [responses[0], responses[2]] == [responses[1], responses[3]]  # one after another


async def test_manual_turns_by_microphone_and_by_events(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(**MANUAL)
        caller.send("input_audio_buffer.clear")
        await caller.speak(SPEECH)
        await asyncio.sleep(0.3)
        caller.send("input_audio_buffer.commit")
        caller.send("response.create")
        await caller.until("output_audio_buffer.stopped")
        said = await caller.until("conversation.item.input_audio_transcription.completed")
        assert said["transcript"] == "hello there"
        caller.send("input_audio_buffer.clear")
        audio = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
        caller.send("input_audio_buffer.append", audio=audio)
        caller.send("input_audio_buffer.commit")
        await caller.until("conversation.item.input_audio_transcription.completed", 2)


@pytest.mark.parametrize("form", [{"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 16_000}], ids=str)
async def test_sound_is_opus_whatever_the_sessions_format(talk: Talk, form: dict[str, Any]) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(audio={"input": {"format": form}, "output": {"format": form}})
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(0.5)
        assert caller.sounding_s == pytest.approx(0.05 * (len(ANSWER) - 1), abs=0.1)
        caller.events = json.loads(json.dumps(caller.events).replace('"rate": 16000', '"rate": 24000'))


async def test_a_turn_ends_although_the_microphone_was_switched_off(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.speak(SPEECH)
        await caller.until("input_audio_buffer.speech_started")
        caller.peer.getSenders()[0].replaceTrack(None)
        await caller.until("response.done")


async def test_text_only(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(output_modalities=["text"])
        caller.send("conversation.item.create", item=HELLO)
        caller.send("response.create")
        await caller.until("response.done")
        assert not {type_ for type_ in caller.order if type_.startswith("output_audio")}
        assert caller.sounding_s == 0


# --- how calls begin --------------------------------------------------------------------------------


async def test_the_official_client_makes_a_call_with_a_session(talk: Talk) -> None:
    caller = Caller()
    try:
        answer = await talk.client.realtime.calls.create(
            sdp=await caller.offer(), session={"type": "realtime", "instructions": "Be brief.", "model": "gpt-realtime"}
        )
        await caller.connect(answer.text)
        session = (await caller.until("session.created"))["session"]
        assert (session["instructions"], session["model"]) == ("Be brief.", "gpt-realtime")
        call_id = answer.response.headers["location"].rpartition("/")[2]
        await talk.client.realtime.calls.hangup(call_id)
        await settled(lambda: is_free(talk.server))
        await settled(lambda: caller.channel.readyState == "closed")
    finally:
        await caller.aclose()
    realtime_grammar.check(caller.events)


async def test_a_server_takes_part_in_a_call_beside_its_client(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.until("session.created")
        call_id = caller.location.rpartition("/")[2]
        async with talk.client.realtime.connect(call_id=call_id) as beside:
            told = await beside.recv()
            assert told.type == "session.created"
            assert told.to_dict()["session"] == caller.events[0]["session"]
            await beside.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            assert (await beside.recv()).type == "session.updated"
            assert (await caller.until("session.updated"))["session"]["output_modalities"] == ["text"]
            caller.send("conversation.item.create", item=HELLO)
            caller.send("response.create")
            await caller.until("response.done")
            while (await beside.recv()).type != "response.done":
                pass
            await talk.client.realtime.calls.hangup(call_id)
            with pytest.raises(ConnectionClosedOK):
                await beside.recv()
    async with talk.client.realtime.connect(call_id=call_id) as late:
        refusal = await late.recv()
        assert refusal.type == "error"
        assert (refusal.error.type, refusal.error.code) == ("invalid_request_error", "not_found")
        with pytest.raises(ConnectionClosedError):
            await late.recv()


async def test_only_so_many_join_a_call(talk: Talk) -> None:
    async with calling(talk.server.url) as caller, AsyncExitStack() as beside:
        await caller.until("session.created")
        call_id = caller.location.rpartition("/")[2]
        for _ in range(calls.MAX_JOINED):
            joined = await beside.enter_async_context(talk.client.realtime.connect(call_id=call_id))
            assert (await joined.recv()).type == "session.created"
        async with talk.client.realtime.connect(call_id=call_id) as one_more:
            refusal = await one_more.recv()
            assert refusal.type == "error"
            assert refusal.error.type == "rate_limit_error"
        await beside.aclose()

        async def joins() -> bool:
            async with talk.client.realtime.connect(call_id=call_id) as later:
                return (await later.recv()).type == "session.created"

        async with asyncio.timeout(5):
            while not await joins():
                pass


async def test_the_beta_called_at_another_path(talk: Talk) -> None:
    caller = Caller()
    try:
        _, answer, _ = await post(f"{talk.server.url}/v1/realtime?model=any", await caller.offer())
        await caller.connect(answer)
        session = (await caller.until("session.created"))["session"]
        assert session["modalities"] == ["text", "audio"]
    finally:
        await caller.aclose()


async def test_offers_that_cannot_be_answered(talk: Talk) -> None:
    url = f"{talk.server.url}/v1/realtime/calls"
    caller = Caller()
    try:
        offer = await caller.offer()
    finally:
        await caller.aclose()
    without_channel = offer[: offer.index("m=application")]
    without_audio = offer[: offer.index("m=audio")] + offer[offer.index("m=application") :]
    without_audio = without_audio.replace("BUNDLE 0 1", "BUNDLE 1")
    for bad in ("", "v=0", "hello", without_channel, without_audio, "x" * (1 << 17)):
        status, body, _ = await post(url, bad)
        assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    status, body, _ = await post(url, offer, **{"Content-Type": "text/plain"})
    assert (status, json.loads(body)["error"]["param"]) == (400, "sdp")
    for session, param in (("{", "session"), ("[]", "session"), ('{"voice": "x"}', "session.voice")):
        form = aiohttp.FormData({"sdp": offer, "session": session}, default_to_multipart=True)
        async with aiohttp.ClientSession() as http, http.post(url, data=form) as response:
            assert (response.status, (await response.json())["error"]["param"]) == (400, param)
    assert is_free(talk.server)
    status, body, _ = await post(f"{url}/rtc_nobody/hangup")
    assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


async def test_a_full_house(talk: Talk) -> None:
    async with calling(talk.server.url):
        caller = Caller()
        status, body, _ = await post(f"{talk.server.url}/v1/realtime/calls", await caller.offer())
        await caller.aclose()
        assert (status, json.loads(body)["error"]["code"]) == (503, "session_limit_reached")


async def test_without_the_extra_it_says_what_to_install(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "find_spec", lambda name: None)
    status, body, _ = await post(f"{talk.server.url}/v1/realtime/calls", "v=0")
    assert (status, json.loads(body)["error"]["code"]) == (501, "unsupported")
    assert "avatar-voice[webrtc]" in body


class StunServer(asyncio.DatagramProtocol):
    """Tells whoever asks that they come from 192.0.2.99."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        asked = aioice.stun.parse_message(data)
        told = aioice.stun.Message(asked.message_method, aioice.stun.Class.RESPONSE, asked.transaction_id)
        told.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.99", 9999)
        self.transport.sendto(bytes(told), address)


@pytest_asyncio.fixture
async def stun_port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1]
    transport.close()


@pytest.mark.parametrize("there_is_one", [False, True])
async def test_a_stun_server_is_asked_if_there_is_one_and_nobody_else(
    tmp_path: Path, fakes: Fakes, stun_port: int, there_is_one: bool
) -> None:
    servers = [{"url": f"stun:127.0.0.1:{stun_port}"}] if there_is_one else []
    caller = Caller()
    try:
        async with serving(fake_engines(fakes), settings_for(tmp_path, webrtc={"ice_servers": servers})) as server:
            _, answer, _ = await post(f"{server.url}/v1/realtime/calls", await caller.offer())
            assert ("192.0.2.99" in answer) is there_is_one
            assert "typ host" in answer
            await caller.connect(answer)
    finally:
        await caller.aclose()


# --- how calls end ----------------------------------------------------------------------------------


async def test_a_client_that_closes_frees_its_slot_in_the_middle_of_a_reply(talk: Talk) -> None:
    talk.fakes.llm.replies = LONG
    async with calling(talk.server.url) as caller:
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.started")
        caller.channel.close()
        await settled(lambda: is_free(talk.server))
    async with calling(talk.server.url) as caller:
        await caller.peer.close()
        await settled(lambda: is_free(talk.server))


async def test_a_client_that_vanishes_frees_its_slot(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)  # 5 s, six times in vain
    async with calling(talk.server.url) as caller:
        await caller.vanish()
        await settled(lambda: is_free(talk.server))


async def test_a_client_that_never_comes_frees_its_slot(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc_call, "CONNECT_S", 0.3)
    caller = Caller()
    status, _, _ = await post(f"{talk.server.url}/v1/realtime/calls", await caller.offer())
    await caller.aclose()
    assert (status, talk.server.service.sessions.active) == (201, 1)
    await settled(lambda: is_free(talk.server))


async def test_the_server_hangs_up_when_it_ends(tmp_path: Path, fakes: Fakes) -> None:
    caller = Caller()
    try:
        async with serving(fake_engines(fakes), settings_for(tmp_path)) as server:
            _, answer, _ = await post(f"{server.url}/v1/realtime/calls", await caller.offer())
            await caller.connect(answer)
            await caller.until("session.created")
        await settled(lambda: caller.peer.connectionState == "closed")
    finally:
        await caller.aclose()


async def test_a_server_that_ends_waits_for_the_calls_that_are_hanging_up(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        talk.server.service.calls.hang_up(caller.location.rpartition("/")[2])
        await talk.server.service.calls.aclose()
        assert is_free(talk.server)


# --- keys -------------------------------------------------------------------------------------------


async def test_a_call_with_an_ephemeral_key_begins_with_what_was_agreed(tmp_path: Path, fakes: Fakes) -> None:
    async with talking_openai(tmp_path, fakes, server={"api_keys": [KEY]}) as talk:
        secret = await talk.client.with_options(api_key=KEY).realtime.client_secrets.create(
            session={"type": "realtime", "instructions": "Be brief."}
        )
        async with calling(talk.server.url, Authorization=f"Bearer {secret.value}") as caller:
            assert caller.events[0]["session"]["instructions"] == "Be brief."
            call_id = caller.location.rpartition("/")[2]
            other = await talk.client.with_options(api_key=KEY).realtime.client_secrets.create()
            for key, is_let_in in ((secret.value, True), (other.value, False), (KEY, True)):
                client = talk.client.with_options(api_key=key)
                async with client.realtime.connect(call_id=call_id) as beside:
                    assert ((await beside.recv()).type == "session.created") == is_let_in
            path = caller.location + "/hangup"
            assert (await post(talk.server.url + path, None, Authorization=f"Bearer {secret.value}"))[0] == 401
            assert (await post(talk.server.url + path, None, Authorization=f"Bearer {KEY}"))[0] == 200
        status, body, _ = await post(
            f"{talk.server.url}/v1/realtime/calls", "v=0", Authorization="Bearer ek_0123456789abcdef"
        )
        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
        assert "client_secrets" in body
