"""`/v1/audio/transcriptions` and `translations`, as OpenAI's own client finds them: recordings become text."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile

from avatar.core.audio import Pcm, resample
from avatar.core.errors import EngineFailed
from avatar.engines.base import Capabilities, TimedWord, Transcript
from tests.fakes.stt import FakeSpeechToText, FakeTranscriptStream
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import Fakes, tone


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking_openai(tmp_path, Fakes(stt=FakeSpeechToText(seconds_heard))) as talk:
        yield talk


def seconds_heard(pcm: Pcm) -> str:
    return f"{np.count_nonzero(np.abs(pcm) > 0.1) / 16_000:.1f} s."


def recording(*pieces: tuple[float, float]) -> bytes:
    """A WAV of tones: amplitude and seconds of each."""
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([tone(a, s * 1000) for a, s in pieces]), 16_000, format="WAV")
    return file.getvalue()


TWO_SENTENCES = recording((0.0, 0.5), (0.3, 1.0), (0.0, 1.0), (0.3, 2.0), (0.0, 0.5))


def named(data: bytes, name: str = "talk.wav") -> tuple[str, bytes]:
    return name, data


# --- recordings to text -------------------------------------------------------------------------


async def test_a_recording_as_json_and_as_text(talk: Talk) -> None:
    create = talk.client.audio.transcriptions.create
    heard = await create(model="whisper-1", file=named(TWO_SENTENCES), language="en", prompt="…", temperature=0)
    assert heard.text == "1.0 s. 2.0 s."
    assert heard.usage is not None
    assert heard.usage.type == "duration"
    assert heard.usage.seconds == pytest.approx(5.0)
    assert await create(model="x", file=named(TWO_SENTENCES), response_format="text") == "1.0 s. 2.0 s.\n"


async def test_a_recording_with_its_times(talk: Talk) -> None:
    create = talk.client.audio.transcriptions.create
    heard = await create(
        model="x", file=named(TWO_SENTENCES), response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (heard.language, heard.duration, heard.text) == ("english", 5.0, "1.0 s. 2.0 s.")
    assert heard.segments is not None
    first, second = heard.segments
    assert (first.start, first.end) == pytest.approx((0.3, 1.7), abs=0.1)
    assert (second.start, second.end) == pytest.approx((2.3, 4.7), abs=0.1)
    assert [first.text, second.text] == ["1.0 s.", " 2.0 s."]
    assert first.no_speech_prob < 0.1
    assert 0 < first.compression_ratio < 2
    srt = await create(model="x", file=named(TWO_SENTENCES), response_format="srt")
    assert srt.startswith("1\n00:00:00,")
    assert "\n2\n00:00:02," in srt
    vtt = await create(model="x", file=named(TWO_SENTENCES), response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.")
    assert vtt.endswith("\n2.0 s.\n\n")


async def test_a_recording_as_it_is_understood(talk: Talk) -> None:
    stream = await talk.client.audio.transcriptions.create(model="x", file=named(TWO_SENTENCES), stream=True)
    *deltas, done = [event async for event in stream]
    assert [(event.type, getattr(event, "delta", "")) for event in deltas] == [
        ("transcript.text.delta", "1.0 s."),
        ("transcript.text.delta", " 2.0 s."),
    ]
    assert done.type == "transcript.text.done"
    assert done.text == "1.0 s. 2.0 s."


@pytest.mark.parametrize("form", ["webm", "mp3", "flac"])
async def test_what_a_file_is_is_seen_and_not_believed(talk: Talk, form: str) -> None:
    file = io.BytesIO()
    if form == "webm":
        with av.open(file, "w", format="webm") as container:
            stream = container.add_stream("libopus", rate=48_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(resample(tone(0.3, 1000), 16_000, 48_000)[None], "flt", "mono")
            frame.sample_rate = 48_000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    else:
        soundfile.write(file, tone(0.3, 1000), 16_000, format=form.upper())
    heard = await talk.client.audio.transcriptions.create(model="x", file=named(file.getvalue(), "a.wav"))
    assert heard.text.endswith(" s.")


async def test_silence_is_no_text(talk: Talk) -> None:
    create = talk.client.audio.transcriptions.create
    assert (await create(model="x", file=named(recording((0.0, 2.0))))).text == ""
    assert talk.fakes.stt.opened == 0
    stream = await create(model="x", file=named(recording((0.0, 2.0))), stream=True)
    assert [event.type async for event in stream] == ["transcript.text.done"]


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ({"file": ("a.wav", b"")}, "file", "invalid_value"),
        ({"response_format": "diarized_json"}, "response_format", "unsupported_value"),
        ({"response_format": "yaml"}, "response_format", "invalid_value"),
        (
            {"timestamp_granularities": ["word"], "response_format": "verbose_json"},
            "timestamp_granularities",
            "unsupported_value",
        ),
        ({"timestamp_granularities": ["letter"]}, "timestamp_granularities[0]", "invalid_value"),
        ({"include": ["logprobs"]}, "include", "unsupported_value"),
        ({"language": "the english one"}, "language", "invalid_value"),
        ({"temperature": 2}, "temperature", "decimal_above_max_value"),
    ],
)
async def test_what_cannot_be_is_said(talk: Talk, wrong: dict[str, Any], param: str, code: str) -> None:
    asked: dict[str, Any] = {"model": "x", "file": named(TWO_SENTENCES), **wrong}
    with pytest.raises(openai.BadRequestError) as refusal:
        await talk.client.audio.transcriptions.create(**asked)
    assert (refusal.value.param, refusal.value.code) == (param, code)


async def test_no_form_at_all(talk: Talk) -> None:
    url = f"{talk.server.url}/v1/audio/transcriptions"
    async with aiohttp.ClientSession() as http:
        for body in (b"", b"--x", b"{}"):
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            async with http.post(url, data=body, headers=headers) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["type"] == "invalid_request_error"
        async with http.get(url) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("data", [b"not audio at all", b"RIFF\0\0\0\0WAVE", TWO_SENTENCES[:30]])
async def test_what_is_no_audio_is_refused(talk: Talk, data: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await talk.client.audio.transcriptions.create(model="x", file=named(data))
    assert (refusal.value.param, refusal.value.code) == ("file", "invalid_value")


async def test_bounds_on_recordings(tmp_path: Path) -> None:
    async with talking_openai(tmp_path, media={"max_upload_bytes": 200_000, "max_upload_s": 3}) as talk:
        for data in (recording((0.3, 4.0)), recording((0.3, 8.0))):  # too many seconds, too many bytes
            with pytest.raises(openai.APIStatusError) as refusal:
                await talk.client.audio.transcriptions.create(model="x", file=named(data))
            assert refusal.value.status_code == 413
        assert (await talk.client.audio.transcriptions.create(model="x", file=named(recording((0.3, 2.0))))).text


async def test_failures_before_and_after_the_first_words(talk: Talk) -> None:
    create = talk.client.audio.transcriptions.create
    talk.fakes.stt.error = EngineFailed("broken")
    for stream in (True, False):
        with pytest.raises(openai.InternalServerError, match="broken"):
            await create(model="x", file=named(TWO_SENTENCES), stream=stream)
    talk.fakes.stt.error = None
    fail_at_second(talk.fakes.stt)
    told = await create(model="x", file=named(TWO_SENTENCES), stream=True)
    with pytest.raises(openai.APIError, match="lost"):
        _ = [event async for event in told]


def fail_at_second(stt: FakeSpeechToText) -> None:
    def hear(pcm: Pcm) -> str:
        if seconds_heard(pcm) == "1.0 s.":
            return "1.0 s."
        raise EngineFailed("lost")

    stt.text = hear


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_transcription(tmp_path: Path, stream: bool) -> None:
    fakes = Fakes(stt=FakeSpeechToText(hang=True))
    async with talking_openai(tmp_path, fakes) as talk:
        create: Any = talk.client.audio.transcriptions.create
        asking = asyncio.create_task(create(model="x", file=named(TWO_SENTENCES), stream=stream))
        await settled(lambda: fakes.stt.opened == 1)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(1):
            await settled(lambda: fakes.stt.closed == 1)


class Clockmaker(FakeSpeechToText):
    """Also fills `WordTiming`."""

    async def time_words(self, pcm: Pcm, language: str | None = None) -> Transcript:
        return Transcript("good morning", "en", (TimedWord("good", 0.1, 0.3), TimedWord("morning", 0.4, 0.9)))


@pytest.mark.parametrize(
    ("asked", "has_words", "has_segments"),
    [(["word"], True, False), (["segment"], False, True), (["word", "segment"], True, True), (None, False, True)],
)
async def test_times_of_words(tmp_path: Path, asked: Any, has_words: bool, has_segments: bool) -> None:
    async with talking_openai(tmp_path, Fakes(stt=Clockmaker())) as talk:
        form = {"timestamp_granularities": asked} if asked else {}
        whole = await talk.client.audio.transcriptions.create(
            model="x", file=named(TWO_SENTENCES), response_format="verbose_json", **form
        )
        assert (whole.words is not None, whole.segments is not None) == (has_words, has_segments)
        if whole.words is not None:
            assert [word.word for word in whole.words] == ["good", "morning"] * 2
            assert whole.words[0].start == pytest.approx(whole.words[1].start - 0.3)
            assert whole.words[2].start - whole.words[0].start > 1  # from the beginning of the recording
            assert whole.text == "good morning good morning"
        with pytest.raises(openai.BadRequestError) as refusal:
            await talk.client.audio.transcriptions.create(
                model="x", file=named(TWO_SENTENCES), response_format="json", timestamp_granularities=["word"]
            )
        assert refusal.value.param == "timestamp_granularities"


# --- translations -------------------------------------------------------------------------------


class Interpreter(FakeSpeechToText):
    """Also fills `SpeechTranslation`."""

    capabilities = Capabilities(translates=True)

    def __init__(self) -> None:
        super().__init__("你好", "zh")
        self.capabilities = Capabilities(translates=True)

    def open_translation(self, language: str | None = None) -> FakeTranscriptStream:
        self.opened += 1
        return FakeTranscriptStream(_English(self), language)


class _English(FakeSpeechToText):
    def __init__(self, counts: FakeSpeechToText) -> None:
        super().__init__("Hello.", "zh")
        self._counts = counts

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "closed" and "_counts" in self.__dict__:
            self._counts.closed += 1
        super().__setattr__(name, value)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_a_translation(tmp_path: Path) -> None:
    async with talking_openai(tmp_path, Fakes(stt=Interpreter())) as talk:
        create = talk.client.audio.translations.create
        assert (await create(model="x", file=named(TWO_SENTENCES))).text == "Hello. Hello."
        whole = await create(model="x", file=named(TWO_SENTENCES), response_format="verbose_json")
        assert (whole.language, whole.text) == ("english", "Hello. Hello.")
        original = await talk.client.audio.transcriptions.create(model="x", file=named(TWO_SENTENCES))
        assert original.text == "你好你好"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_an_engine_that_cannot_translate_says_so(talk: Talk) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot translate") as refusal:
        await talk.client.audio.translations.create(model="x", file=named(TWO_SENTENCES))
    assert refusal.value.code == "unsupported_value"
