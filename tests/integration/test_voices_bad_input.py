"""Recordings, names and consents that will not do: each ends in a reason, and never in a voice that is listed."""

import io
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from avatar.core.audio import INPUT_RATE_HZ, Pcm, silence
from tests.corpus.sound import asset
from tests.integration.voices import CONSENT, VoiceClient, at_level, client, recording, tts, wav
from tests.speech import beckett, spoken

__all__ = ["client", "recording", "tts"]  # the fixtures

pytestmark = pytest.mark.weights


async def another() -> Pcm:
    """A woman that espeak-ng makes."""
    return at_level(await spoken("We are going for a walk in the park, and the weather is nice today.", language="it"))


def turns(one: Pcm, other: Pcm, turn_s: float = 2.0) -> list[tuple[Pcm, Pcm]]:
    """What two say, cut into turns that follow each other."""
    cuts = [range(0, pcm.size, int(turn_s * INPUT_RATE_HZ)) for pcm in (one, other)]
    pieces = [
        [pcm[at : at + int(turn_s * INPUT_RATE_HZ)] for at in cut] for pcm, cut in zip((one, other), cuts, strict=True)
    ]
    return list(zip(*pieces, strict=False))


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("silence", "NO_SPEECH", "Nobody speaks"),
        ("half a second", "BAD_AUDIO", "too short"),
        ("music", "", ""),
        ("overdriven", "BAD_AUDIO", "overdriven"),
        ("noisy", "BAD_AUDIO", "noise behind the voice"),
        ("two people", "BAD_AUDIO", "More than one voice"),
        ("one after the other", "BAD_AUDIO", "More than one voice"),
        ("too long", "BUFFER_LIMIT", "longer than 60 s"),
    ],
)
async def test_a_recording_that_will_not_do_fails_with_the_reason(
    client: VoiceClient, kind: str, code: str, reason: str
) -> None:
    speech, rng = at_level(beckett()), np.random.default_rng(1)
    seconds = np.arange(10 * INPUT_RATE_HZ) / INPUT_RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * seconds) * (1 + np.sin(seconds * 9)) for hz in (220, 277, 330, 440, 880))
    noise = rng.normal(0, 0.05, speech.size)
    recordings = {
        "silence": silence(80_000),
        "half a second": speech[4_800:13_000],
        "music": at_level(np.asarray(chord, np.float32)),
        "overdriven": np.clip(speech * 20, -1, 1),
        "noisy": (speech + noise).astype(np.float32),
        "too long": np.tile(speech, 7),
        "one after the other": np.concatenate([speech, at_level(asset("two_cities.wav")[: 10 * INPUT_RATE_HZ])]),
        "two people": np.concatenate([part for turn in turns(speech, await another()) for part in turn]),
    }
    status, profile = await client.upload(wav(recordings[kind]))
    assert status == 202
    failed = await client.enrolled(profile["id"])
    assert failed["status"] == "failed"
    assert code in failed["problem_code"]
    assert reason in failed["problem"]
    assert failed["problem_code"] in ("BAD_AUDIO", "NO_SPEECH", "BUFFER_LIMIT")
    _, listed = await client.call("GET", "/api/voice-profiles")
    assert listed["voices"] == []
    _, everything = await client.call("GET", "/api/voice-profiles?status=all")
    assert [voice["id"] for voice in everything["voices"]] == [profile["id"]]


@pytest.mark.parametrize("name", ["../../etc", "a\0b", "<script>alert(1)</script>", "", "x" * 81, "a\nb", "..", "a/b"])
async def test_a_name_that_is_none_is_refused(client: VoiceClient, recording: bytes, name: str) -> None:
    status, problem = await client.upload(recording, name=name)
    assert (status, problem["code"]) == (400, "BAD_MESSAGE")
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


@pytest.mark.parametrize("name", ["Åsa Öberg", "王小明", "हिन्दी", "O’Brien (work)", "Sam-2"])
async def test_a_name_may_be_of_any_language(client: VoiceClient, recording: bytes, name: str) -> None:
    status, profile = await client.upload(recording, name=name)
    assert (status, profile["name"]) == (202, name)
    await client.call("DELETE", f"/api/voice-profiles/{profile['id']}")


async def test_what_is_no_audio_is_refused_at_the_door(client: VoiceClient, tmp_path: Path) -> None:
    cut_off = wav(at_level(beckett()))[:40]
    for data in (b"", b"<html>not audio at all</html>", b"MZ" + bytes(2000), b"PK\3\4" + bytes(100), cut_off):
        status, problem = await client.upload(data)
        assert (status, problem["code"]) == (422, "BAD_AUDIO")
    assert not list((tmp_path / "voices" / ".incoming").iterdir())


PNG = b"\x89PNG\r\n\x1a\n" + bytes(2000)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("voice.wav", wav(at_level(beckett())))
    return file.getvalue()


@pytest.mark.parametrize("data", [PNG, zipped()], ids=["PNG", "ZIP"])
async def test_what_is_only_called_audio_is_refused_wherever_audio_is_taken(client: VoiceClient, data: bytes) -> None:
    for path in (
        "/api/voice-profile",
        "/api/tts/qwen3/voices/upload",
        "/api/v1/extract-embedding",
        "/api/v1/clone-voice",
    ):
        form = aiohttp.FormData({"name": "Sam", "text": "Hello.", **CONSENT})
        form.add_field("audio", data, filename="voice.wav", content_type="audio/wav")
        status, problem = await client.call("POST", path, data=form)
        assert (status, problem["code"]) == (422, "BAD_AUDIO")
        assert "none of the audio files taken here" in problem["detail"]
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


@pytest.mark.parametrize(
    "head", [b"RIFF\0\0\0\0WAVE", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\0\0\0\x20ftypisom"]
)
async def test_what_only_begins_like_audio_is_refused_and_never_listed(client: VoiceClient, head: bytes) -> None:
    status, problem = await client.upload(head + PNG)
    assert (status, problem["code"]) == (422, "BAD_AUDIO")
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


async def test_audio_by_another_name_is_taken_for_what_it_is(client: VoiceClient, recording: bytes) -> None:
    form = aiohttp.FormData({"name": "Sam", **CONSENT})
    form.add_field("audio", recording, filename="voice.mp3", content_type="audio/mpeg")
    _, profile = await client.call("POST", "/api/voice-profile", data=form)
    assert (await client.enrolled(profile["id"]))["status"] == "ready"


async def test_consent_is_needed(client: VoiceClient, recording: bytes) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    for fields in ({"consent_statement": " "}, {"consent_date": "yesterday"}, {"consent_date": ahead}):
        status, problem = await client.upload(recording, **fields)
        assert (status, problem["code"]) == (400, "BAD_MESSAGE")
        assert "consent" in problem["detail"]


async def test_no_field_takes_control_characters(client: VoiceClient, recording: bytes) -> None:
    for field in ("owner", "reference_text", "consent_statement"):
        for text in ("\0", "Sam\0", "a\x1bb"):
            status, problem = await client.upload(recording, **{field: text})
            assert (status, problem["detail"]) == (
                400,
                f"The request is wrong: body.{field}: It holds control characters: send plain text.",
            )
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


async def test_more_than_the_limit_is_refused_before_it_is_kept(client: VoiceClient) -> None:
    status, problem = await client.upload(b"RIFF____WAVE" + bytes(21_000_000))
    assert (status, problem["code"]) == (413, "BUFFER_LIMIT")

    async def chunked() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield bytes(1_000_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, problem = await client.call("POST", "/api/voice-profile", data=chunked(), headers=headers)
    assert (status, problem["code"]) == (413, "BUFFER_LIMIT")


async def test_unknown_voices(client: VoiceClient) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/clone", None),
        ("GET", "/clone-status", None),
        ("POST", "/preview", {}),
        ("GET", "/audio", None),
    ):
        for voice_id in ("voice_nobody", "..%2F..%2Fsecret", "%00"):
            status, problem = await client.call(method, f"/api/voice-profiles/{voice_id}{path}", json=body)
            assert status in (404, 405)  # with a slash in it, it is another path
            assert problem["code"] in ("NOT_FOUND", "BAD_MESSAGE")


async def test_a_text_in_place_of_a_file_is_told_without_names_of_classes(client: VoiceClient) -> None:
    form = aiohttp.FormData({"name": "Sam", "audio": "voice.wav", **CONSENT})
    status, problem = await client.call("POST", "/api/voice-profile", data=form)
    assert (status, problem["code"]) == (400, "BAD_MESSAGE")
    assert "body.audio: It is to be sent as a file" in problem["detail"]
    assert "class" not in problem["detail"]


async def test_a_status_that_is_none_lists_those_there_are(client: VoiceClient) -> None:
    status, problem = await client.call("GET", "/api/voice-profiles?status=asleep")
    assert (status, problem["fields"][0]["field"]) == (400, "query.status")
    assert "'ready'" in problem["detail"]
    assert "'all'" in problem["detail"]
