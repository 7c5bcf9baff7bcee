"""How calls over WebRTC begin, who takes part in them, and how they end: with a real server, over real ICE and DTLS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import aiohttp
import aioice.ice
import aioice.stun
import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from avatar.server.realtime import calls, webrtc_call
from tests import realtime_grammar
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.realtime_client import HELLO, SPEECH
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.integration.webrtc_client import Caller, calling, post
from tests.unit.conversation import Fakes

LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen fifteen."
KEY = "a-key-of-this-test-0123456789"


def is_free(server: Server) -> bool:
    return server.service.sessions.active == 0


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


async def test_who_waits_to_join_a_call_may_go_and_is_heard(talk: Talk) -> None:
    caller = Caller()
    try:
        _, answer, location = await post(f"{talk.server.url}/v1/realtime/calls", await caller.offer())
        call_id = location.rpartition("/")[2]
        for _ in range(calls.MAX_JOINED + 1):
            async with talk.client.realtime.connect(call_id=call_id) as waiting:
                await waiting.response.cancel()
        async with talk.client.realtime.connect(call_id=call_id) as beside:
            await beside.session.update(session={"type": "realtime", "instructions": "Be brief."})
            await caller.connect(answer)
            assert [(await beside.recv()).type for _ in range(2)] == ["session.created", "session.updated"]
        assert (await caller.until("session.updated"))["session"]["instructions"] == "Be brief."
    finally:
        await caller.aclose()


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
