"""Short-lived keys: the official client asks for one, a browser begins a session with it, and it opens nothing else."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from avatar.server.access import KEY_SUBPROTOCOL
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.realtime_client import SPEECH, calling
from tests.integration.test_access import BEHIND

KEY = "a-key-of-this-test-0123456789"
SESSION: dict[str, Any] = {"type": "realtime", "instructions": "Be brief.", "audio": {"output": {"speed": 1.25}}}


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking_openai(tmp_path, server={"api_keys": [KEY]}) as talk:
        talk.client.api_key = KEY
        yield talk


async def ask(talk: Talk, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{talk.server.url}/v1/realtime/{path}"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json=body) as answer:
        return answer.status, await answer.json()


async def first_event(talk: Talk, key: str) -> Any:
    url = talk.server.url.replace("http", "ws") + "/v1/realtime?model=other"
    protocols = ["realtime", KEY_SUBPROTOCOL + key]
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=protocols) as socket:
        assert socket.protocol == "realtime"
        return json.loads((await socket.receive(5)).data)


async def test_a_session_begins_with_what_was_agreed(talk: Talk) -> None:
    secret = await talk.client.realtime.client_secrets.create(session=SESSION)  # type: ignore[arg-type]
    assert secret.value.startswith("ek_")
    assert secret.expires_at == pytest.approx(time.time() + 600, abs=5)
    assert secret.session.type == "realtime"
    assert secret.session.instructions == "Be brief."
    for _ in range(2):  # as often as is wanted
        session = (await first_event(talk, secret.value))["session"]
        assert (session["instructions"], session["audio"]["output"]["speed"]) == ("Be brief.", 1.25)
    async with calling(talk.client.with_options(api_key=secret.value)) as line:
        assert line.events[0]["session"]["instructions"] == "Be brief."
        assert (await line.update(instructions="Be long."))["audio"]["output"]["speed"] == 1.25


async def test_a_transcription_session(talk: Talk) -> None:
    secret = await talk.client.realtime.client_secrets.create(
        session={"type": "transcription", "audio": {"input": {"transcription": {"model": "any", "language": "en"}}}}
    )
    assert secret.session.type == "transcription"
    assert (await first_event(talk, secret.value))["session"]["object"] == "realtime.transcription_session"


async def test_the_language_that_was_agreed_is_listened_for_until_it_is_taken_back(talk: Talk) -> None:
    german = {"model": "any", "language": "de"}
    secret = await talk.client.realtime.client_secrets.create(
        session={"type": "realtime", "audio": {"input": {"turn_detection": None, "transcription": german}}}  # type: ignore[arg-type]
    )
    async with calling(talk.client.with_options(api_key=secret.value)) as line:
        for language in ("de", None):
            await line.speak(SPEECH)
            await line.send("input_audio_buffer.commit")
            await line.until("conversation.item.input_audio_transcription.completed")
            assert talk.fakes.stt.languages[-1] == language
            for transcription in (None, {"model": "any"}):
                await line.update(audio={"input": {"transcription": transcription}})


async def test_it_opens_nothing_else(talk: Talk) -> None:
    secret = await talk.client.realtime.client_secrets.create()
    given = {"Authorization": f"Bearer {secret.value}"}
    async with aiohttp.ClientSession(headers=given) as http:
        for path in [
            *BEHIND,
            "/v1/realtime/client_secrets",
            "/v1/realtime/sessions",
            "/v1/realtime/calls/rtc_x/hangup",
        ]:
            async with http.get(talk.server.url + path) as got, http.post(talk.server.url + path) as posted:
                assert (got.status, posted.status) == (401, 401), path
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        async with talk.server.client(**given):
            pass
    with pytest.raises(openai.AuthenticationError, match="client_secrets"):
        await talk.client.with_options(api_key=secret.value).models.list()


async def test_expired_and_unknown_ones_open_nothing(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = await talk.client.realtime.client_secrets.create(expires_after={"seconds": 10})
    assert secret.expires_at == pytest.approx(time.time() + 10, abs=2)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await first_event(talk, "ek_0123456789abcdef")
    later_s = time.time() + 11
    monkeypatch.setattr(talk.server.service.ephemeral, "_now", lambda: later_s)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await first_event(talk, secret.value)


async def test_unknown_ones_are_refused_where_no_key_is_asked_for(tmp_path: Path) -> None:
    async with talking_openai(tmp_path) as talk:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await first_event(talk, "ek_0123456789abcdef")
        secret = await talk.client.realtime.client_secrets.create(session=SESSION)  # type: ignore[arg-type]
        assert (await first_event(talk, secret.value))["session"]["instructions"] == "Be brief."
        assert (await first_event(talk, "whatever"))["session"]["model"] == "other"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "expires_after.anchor"),
        ({"expires": 10}, "expires"),
        ({"session": {"type": "song"}}, "session.type"),
        ({"session": {"voice": "x"}}, "session.voice"),
        ({"session": {"model": 7, "speed": 1}}, "session.speed"),
        ({"session": {"audio": {"output": {"voice": "nobody"}}}}, "session.audio.output.voice"),
        ({"session": {"instructions": "x" * (1 << 18)}}, "session"),
        ([], None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_is_refused(talk: Talk, body: Any, param: str | None) -> None:
    status, answer = await ask(talk, "client_secrets", body)
    assert (status, answer["error"]["type"], answer["error"]["param"]) == (400, "invalid_request_error", param)


async def test_the_betas_form(talk: Talk) -> None:
    status, session = await ask(talk, "sessions", {"model": "gpt-4o-realtime-preview", "instructions": "Be brief."})
    assert (status, session["model"], session["modalities"]) == (200, "gpt-4o-realtime-preview", ["text", "audio"])
    secret = session["client_secret"]
    assert secret["expires_at"] == pytest.approx(time.time() + 60, abs=5)
    assert (await first_event(talk, secret["value"]))["session"]["instructions"] == "Be brief."
    assert (await ask(talk, "sessions", {"voice": "nobody"}))[0] == 400
    for path in ("sessions", "transcription_sessions"):
        assert (await ask(talk, path, {"input_audio_format": ["pcm16"]}))[0] == 400
    assert (await ask(talk, "sessions", {"modalities": 5}))[0] == 400
    asked = {"input_audio_format": "g711_ulaw", "modalities": ["text"], "input_audio_transcription": {"language": "de"}}
    status, session = await ask(talk, "transcription_sessions", asked)
    assert (status, session["input_audio_transcription"]["language"]) == (200, "de")
    told = (await first_event(talk, session["client_secret"]["value"]))["session"]
    assert (told["type"], told["audio"]["input"]["format"]) == ("transcription", {"type": "audio/pcmu"})
