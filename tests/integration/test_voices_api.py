"""The life of an enrolled voice over HTTP, on a real server with real decoders and the real speaker encoder."""

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.fakes.cloner import FakeCloner
from tests.integration.serving import settled
from tests.integration.voices import VoiceClient, client, ready, recording, tts, voice_server

__all__ = ["client", "recording", "tts"]  # the fixtures

pytestmark = pytest.mark.weights

READY_S = 5.0


@pytest.mark.parametrize(
    ("path", "field"),
    [("/api/voice-profile", "audio"), ("/api/voice-profiles", "file"), ("/api/tts/qwen3/voices/upload", "audio")],
)
async def test_a_recording_becomes_a_voice(
    client: VoiceClient, tts: FakeCloner, recording: bytes, path: str, field: str
) -> None:
    status, profile = await client.upload(recording, path, field, language="en", reference_text="Ever tried.")
    assert (status, profile["status"]) == (202, "queued")
    profile = await client.enrolled(profile["id"])
    assert profile["status"] == "ready"
    assert profile["quality"]["speech_s"] > 3
    assert profile["quality"]["snr_db"] > 20
    assert tts.learned.keys() == {profile["id"]}
    assert tts.conditioned[0].rate_hz == 24_000
    assert tts.conditioned[0].text == "Ever tried."
    for prefix in ("/api/voice-profiles", "/api/tts/qwen3/voices"):
        _, listed = await client.call("GET", prefix)
        assert [voice["id"] for voice in listed["voices"]] == [profile["id"]]
        _, state = await client.call("GET", f"{prefix}/{profile['id']}/clone-status")
        assert (state["status"], state["progress"]) == ("ready", 1.0)


async def test_progress_is_told_step_by_step(client: VoiceClient, recording: bytes) -> None:
    async with client.http.ws_connect(f"{client.server.url}/ws/events?scope=qwen3_tts_voice_clone") as ws:
        await client.upload(recording)
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(30):
            while not seen or seen[-1]["state"] != "done":
                seen.append(json.loads((await ws.receive()).data))
    steps = [message["step"] for message in seen if "step" in message]
    order = ["decode", "trim", "quality", "embedding", "transcribe", "conditioning"]
    assert steps == [step for step in order if step in steps]  # a slow reader gets the newest alone
    assert {message["scope"] for message in seen} == {"qwen3_tts_voice_clone"}
    assert seen[-1]["fraction"] == 1.0


async def test_the_transcriber_fills_in_what_is_said(client: VoiceClient, recording: bytes) -> None:
    voice_id = await ready(client, recording)
    _, profile = await client.call("GET", f"/api/voice-profiles/{voice_id}")
    assert profile["reference_text"]


@pytest.mark.parametrize("prefix", ["/api/voice-profiles", "/api/tts/qwen3/voices"])
async def test_a_voice_is_changed_previewed_and_deleted(
    client: VoiceClient, tts: FakeCloner, recording: bytes, prefix: str
) -> None:
    voice_id = await ready(client, recording)
    url = f"{prefix}/{voice_id}"
    status, profile = await client.call("PATCH", url, json={"name": "萨姆 2", "is_default": True})
    assert (status, profile["name"], profile["is_default"]) == (200, "萨姆 2", True)
    assert await client.call("GET", url) == (200, profile)
    status, profile = await client.call("PATCH", url, json={"owner": "萨姆"})
    assert (status, profile["name"], profile["owner"]) == (200, "萨姆 2", "萨姆")
    status, state = await client.call("POST", f"{url}/clone")
    assert (status, state["voice_id"], state["status"], state["progress"]) == (202, voice_id, "ready", 1.0)
    status, spoken = await client.call("POST", f"{url}/preview", json={"text": "Hello there."})
    assert (status, tts.requests[-1][0]) == (200, voice_id)
    pcm, rate_hz = soundfile.read(io.BytesIO(spoken))
    assert (rate_hz, pcm.size > 0) == (24_000, True)
    assert (await client.call("POST", f"{url}/preview"))[0] == 200  # what the recording says
    status, problem = await client.call("POST", f"{url}/preview", json={"text": "…"})
    assert (status, problem["code"]) == (400, "BAD_MESSAGE")
    status, heard = await client.call("GET", f"{url}/audio")
    assert (status, soundfile.read(io.BytesIO(heard))[1]) == (200, 24_000)
    _, speakers = await client.call("GET", "/v1/voices")
    assert [voice["kind"] for voice in speakers["data"]] == ["enrolled", "builtin", "builtin"]
    assert (await client.call("DELETE", url))[0] == 204
    assert (await client.call("GET", url))[0] == 404
    assert (await client.call("GET", f"{url}/clone-status"))[0] == 404
    assert (await client.call("GET", prefix))[1]["voices"] == []
    assert not tts.learned


async def test_the_same_upload_twice_is_one_voice(client: VoiceClient, tts: FakeCloner, recording: bytes) -> None:
    voice_id = await ready(client, recording, reference_text="Ever tried.")
    status, again = await client.upload(recording)
    assert (status, again["id"]) == (200, voice_id)
    other = await ready(client, recording, name="Somebody else", reference_text="Ever tried.")
    assert other != voice_id
    assert len(tts.conditioned) == 1  # the same recording: nothing is computed again


async def test_an_upload_is_ready_soon(client: VoiceClient, recording: bytes) -> None:
    began_s = time.process_time()  # others who want the processor do not count
    await ready(client, recording)
    assert time.process_time() - began_s < READY_S


async def test_deleted_files_are_set_aside_on_wish(client: VoiceClient, recording: bytes, tmp_path: Path) -> None:
    gone, kept = await ready(client, recording), await ready(client, recording, name="Kept")
    assert (await client.call("DELETE", f"/api/voice-profiles/{gone}"))[0] == 204
    assert (await client.call("DELETE", f"/api/tts/qwen3/voices/{kept}?delete_files=false"))[0] == 204
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []
    assert [path.name for path in (tmp_path / "voices").glob("**/voice_*")] == [kept]
    assert (tmp_path / "voices" / ".removed" / kept / "source").read_bytes() == recording


async def test_fifty_uploads_at_once_lose_no_job(client: VoiceClient, recording: bytes) -> None:
    answers = await asyncio.gather(*(client.upload(recording, name=f"Voice {n}") for n in range(50)))
    assert {status for status, _ in answers} == {202}
    ended = [await client.enrolled(profile["id"], 60) for _, profile in answers]
    assert {profile["status"] for profile in ended} == {"ready"}


async def test_deleting_while_it_is_enrolled_leaves_nothing(
    client: VoiceClient, recording: bytes, tmp_path: Path
) -> None:
    for _ in range(3):
        _, profile = await client.upload(recording)
        assert (await client.call("DELETE", f"/api/voice-profiles/{profile['id']}"))[0] == 204
    left = {path.name for path in (tmp_path / "voices").iterdir()}
    assert left <= {".incoming", ".conditioning"}


async def test_an_enrolment_is_cancelled_and_begun_again(client: VoiceClient, recording: bytes) -> None:
    _, first = await client.upload(recording, name="First")
    _, second = await client.upload(recording, name="Second")
    url = f"/api/tts/qwen3/voices/{second['id']}/clone"
    _, state = await client.call("DELETE", url)
    assert state["status"] == "cancelled"
    assert (await client.enrolled(first["id"]))["status"] == "ready"
    status, _ = await client.call("POST", url)
    assert status == 202
    assert (await client.enrolled(second["id"]))["status"] == "ready"


async def test_voices_outlive_the_server_and_nothing_is_computed_again(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    async with voice_server(tmp_path, models_dir) as client:
        voice_id = await ready(client, recording)
        _, before = await client.call("GET", f"/api/voice-profiles/{voice_id}")
    tts = FakeCloner()
    async with voice_server(tmp_path, models_dir, tts) as client:
        _, after = await client.call("GET", f"/api/voice-profiles/{voice_id}")
        assert after == before
        await client.call("POST", f"/api/voice-profiles/{voice_id}/preview", json={"text": "Hello."})
        assert (tts.requests[-1][0], tts.conditioned) == (voice_id, [])
    newer = FakeCloner()
    newer.conditioning_version = "fake-2"
    async with voice_server(tmp_path, models_dir, newer) as client:
        await settled(lambda: voice_id in newer.learned)
        assert len(newer.conditioned) == 1
