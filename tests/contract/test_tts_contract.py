"""What every voice owes its caller; the real one and the fake are held to the same."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from avatar.core.audio import Pcm, samples_to_ms
from avatar.core.errors import EngineFailed
from avatar.core.voices import Reference
from avatar.engines.base import ClonesVoices, Mark, SpeechChunk, TextToSpeech
from avatar.engines.tts.espeak import DEFAULT_VOICE, Espeak, choose_voice
from avatar.engines.tts.kokoro import Kokoro
from avatar.engines.tts.openai_speech import OpenAISpeech
from tests import tiny_kokoro
from tests.fakes.cloner import FakeCloner
from tests.fakes.speech_server import SpeechServer
from tests.fakes.tts import FakeTextToSpeech

_AUDIBLE = 0.003


class Pieces:
    """An iterator over pieces of text that knows how far it was read, and whether it was closed."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = list(pieces)
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            for piece in self._pieces:
                self.taken += 1
                yield piece
        finally:
            self.closed = True


async def speak(engine: TextToSpeech, *pieces: str, **options: str) -> list[SpeechChunk]:
    async with aclosing(engine.speak(aiter(Pieces(pieces)), **options)) as chunks:
        return [chunk async for chunk in chunks]


async def refuses_to_load(engine: TextToSpeech, why: str) -> None:
    """What is wrong is said when it is loaded; once closed it says that."""
    with pytest.raises(EngineFailed, match=why):
        await engine.warm_up()
    await engine.aclose()
    with pytest.raises(EngineFailed, match="closed"):
        await speak(engine, "Hello.")


def audio(chunks: list[SpeechChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks]) if chunks else np.zeros(0, np.float32)


def marks(chunks: list[SpeechChunk]) -> list[Mark]:
    return [mark for chunk in chunks for mark in chunk.marks]


class TextToSpeechContract:
    """A subclass gives the fixture `engine`: warmed up, closed afterwards."""

    async def test_it_says_what_it_is(self, engine: TextToSpeech) -> None:
        assert isinstance(engine, TextToSpeech)
        assert engine.name
        assert engine.voices
        assert engine.sample_rate_hz >= 16_000

    async def test_speech_is_mono_float_within_bounds_and_about_as_long_as_it_takes_to_say(
        self, engine: TextToSpeech
    ) -> None:
        pcm = audio(await speak(engine, "The weather is nice today, and we are going for a walk in the park."))
        assert pcm.dtype == np.float32
        assert pcm.ndim == 1
        assert 0.05 < np.abs(pcm).max() <= 1
        assert 2_000 < samples_to_ms(pcm.size, engine.sample_rate_hz) < 8_000

    async def test_sound_begins_within_20_ms_of_the_stream(self, engine: TextToSpeech) -> None:
        for text in ("Costs rise.", "I am fine.", "Paris."):
            first = int(np.argmax(np.abs(audio(await speak(engine, text))) > _AUDIBLE))
            assert samples_to_ms(first, engine.sample_rate_hz) <= 20

    async def test_marks_advance_lie_in_their_chunk_and_end_with_the_text(self, engine: TextToSpeech) -> None:
        pieces = ("Hello there, my friend. ", "It costs $1,234.56! ", "…", " And 今天天气很好 too.")
        chunks = await speak(engine, *pieces)
        made = marks(chunks)
        assert made == sorted(made, key=lambda mark: (mark.text_end, mark.sample))
        assert made == sorted(made, key=lambda mark: (mark.sample, mark.text_end))
        assert made[-1].text_end == len("".join(pieces))
        start = 0
        for chunk in chunks:
            end = start + chunk.pcm.size
            assert all(start <= mark.sample <= end for mark in chunk.marks)
            start = end

    async def test_each_piece_ends_with_a_mark_of_its_own(self, engine: TextToSpeech) -> None:
        ends = {mark.text_end for mark in marks(await speak(engine, "One two. ", "Three? ", "Four"))}
        assert {9, 16, 20} <= ends

    async def test_words_have_marks(self, engine: TextToSpeech) -> None:
        text = "We are going for a walk"
        ends = {mark.text_end for mark in marks(await speak(engine, text))}
        assert {len("We are going"), len("We are going for a")} & ends

    async def test_the_first_piece_is_spoken_before_the_second_is_asked_for(self, engine: TextToSpeech) -> None:
        pieces = Pieces(["One two three.", "Four five six."])
        stream = engine.speak(aiter(pieces))
        assert (await anext(stream)).pcm.size
        assert pieces.taken == 1
        await stream.aclose()

    async def test_closing_stops_and_closes_the_text(self, engine: TextToSpeech) -> None:
        pieces = Pieces(["One two three. " * 50] * 3)
        stream = engine.speak(aiter(pieces))
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert pieces.closed
        assert pieces.taken == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    async def test_cancelling_before_the_first_chunk_harms_nothing(self, engine: TextToSpeech) -> None:
        for _ in range(3):
            task = asyncio.create_task(speak(engine, "One two three. " * 50))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert audio(await speak(engine, "Hello.")).size

    async def test_an_error_in_the_text_comes_out(self, engine: TextToSpeech) -> None:
        async def broken() -> AsyncIterator[str]:
            yield "Hello."
            raise EngineFailed("the model died")

        stream = engine.speak(broken())
        with pytest.raises(EngineFailed, match="the model died"):
            _ = [chunk async for chunk in stream]

    @pytest.mark.parametrize("nothing", [(), ("",), ("...",), ("😀",), (" ", "—", "！？")])
    async def test_what_nobody_can_say_gives_marks_and_no_audio(
        self, engine: TextToSpeech, nothing: tuple[str, ...]
    ) -> None:
        chunks = await speak(engine, *nothing)
        assert audio(chunks).size == 0
        text = "".join(nothing)
        assert not text or marks(chunks)[-1] == Mark(len(text), 0)

    async def test_several_speak_at_once_as_they_would_alone(self, engine: TextToSpeech) -> None:
        texts = [f"{word} is the word. " * 5 for word in ("Red", "Green", "Blue", "今天", "Grey")]
        together = await asyncio.gather(*(speak(engine, text) for text in texts))
        for text, chunks in zip(texts, together, strict=True):
            assert marks(chunks)[-1].text_end == len(text)
            alone = audio(await speak(engine, text)).size
            assert audio(chunks).size == pytest.approx(alone, rel=0.05)

    async def test_a_text_is_spoken_once(self, engine: TextToSpeech) -> None:
        whole = audio(await speak(engine, "One two three four five six seven eight nine ten.")).size
        halves = audio(await speak(engine, "One two three four five ", "six seven eight nine ten.")).size
        assert halves == pytest.approx(whole, rel=0.2)

    async def test_an_unknown_voice_falls_back(self, engine: TextToSpeech) -> None:
        known = audio(await speak(engine, "Hello there.", voice=engine.voices[0])).size
        assert audio(await speak(engine, "Hello there.", voice="nobody")).size == pytest.approx(known, rel=0.05)

    async def test_the_event_loop_does_next_to_nothing_meanwhile(self, engine: TextToSpeech) -> None:
        before = time.thread_time()
        chunks = await speak(engine, "The quick brown fox jumps over the lazy dog. " * 20)
        assert (time.thread_time() - before) / len(chunks) < 0.001

    async def test_warming_up_again_changes_nothing(self, engine: TextToSpeech) -> None:
        voices = engine.voices
        await engine.warm_up()
        assert engine.voices == voices


class ClonesVoicesContract(TextToSpeechContract):
    """What is owed besides by an engine that speaks like a recording."""

    reference = Reference(
        np.sin(np.arange(96_000, dtype=np.float32) / np.float32(20)), 24_000, "Ever tried. Ever failed.", "en"
    )

    async def test_it_says_that_it_clones(self, engine: TextToSpeech) -> None:
        assert isinstance(engine, ClonesVoices)
        assert engine.capabilities.clones
        assert engine.conditioning_version

    async def test_a_voice_is_learned_spoken_and_forgotten(self, engine: ClonesVoices) -> None:
        conditioning = await engine.condition(self.reference)
        assert "voice_x" not in engine.voices
        engine.learn("voice_x", conditioning)
        engine.learn("voice_x", conditioning)
        assert engine.voices.count("voice_x") == 1
        assert engine.voices[0] != "voice_x"
        assert audio(await speak(engine, "Hello there.", voice="voice_x")).size
        engine.forget("voice_x")
        engine.forget("voice_x")
        assert "voice_x" not in engine.voices
        assert audio(await speak(engine, "Hello there.", voice="voice_x")).size  # with the default

    async def test_the_same_recording_gives_the_same_conditioning(self, engine: ClonesVoices) -> None:
        assert await engine.condition(self.reference) == await engine.condition(self.reference)

    async def test_what_it_did_not_make_is_refused(self, engine: ClonesVoices) -> None:
        for wrong in (b"", b"nonsense", bytes(1000)):
            with pytest.raises(EngineFailed):
                engine.learn("voice_x", wrong)
        assert "voice_x" not in engine.voices

    async def test_a_voice_forgotten_in_the_middle_is_spoken_to_the_end(self, engine: ClonesVoices) -> None:
        engine.learn("voice_x", await engine.condition(self.reference))
        stream = engine.speak(aiter(Pieces(["One two three. ", "Four five six."])), voice="voice_x")
        await anext(stream)
        engine.forget("voice_x")
        rest = [chunk async for chunk in stream]
        assert marks(rest)[-1].text_end == len("One two three. Four five six.")


class TestFakeCloner(ClonesVoicesContract):
    @pytest.fixture
    def engine(self) -> FakeCloner:
        return FakeCloner()


class TestOpenAISpeech(ClonesVoicesContract):
    @pytest_asyncio.fixture
    async def engine(self) -> AsyncIterator[OpenAISpeech]:
        async with SpeechServer().running() as server:
            engine = OpenAISpeech(server.base_url)
            await engine.warm_up()
            yield engine
            await engine.aclose()
            await engine.aclose()


class TestFake(TextToSpeechContract):
    @pytest.fixture
    def engine(self) -> FakeTextToSpeech:
        return FakeTextToSpeech()

    async def test_it_counts(self) -> None:
        fake = FakeTextToSpeech()
        await speak(fake, "One.", "Two.", voice="hum", language="en")
        stream = fake.speak(aiter(Pieces(["Three. " * 9])))
        await anext(stream)
        assert fake.active == 1
        await stream.aclose()
        assert (fake.active, fake.closed_early, fake.spoken) == (0, 1, ["One.", "Two.", "Three. " * 9])
        assert fake.requests == [("hum", "en"), (None, None)]

    async def test_it_fails_when_told_to(self) -> None:
        with pytest.raises(EngineFailed, match="broken"):
            await speak(FakeTextToSpeech(error=EngineFailed("broken")), "Hello.")


class TestEspeak(TextToSpeechContract):
    @pytest_asyncio.fixture
    async def engine(self) -> AsyncIterator[Espeak]:
        engine = Espeak()
        await engine.warm_up()
        yield engine
        await engine.aclose()
        await engine.aclose()

    async def test_every_language_it_claims_has_a_voice(self, engine: Espeak) -> None:
        for language in sorted(engine.capabilities.languages - {"en"}):
            chosen = choose_voice("Bonjour, mes amis.", None, language, DEFAULT_VOICE, frozenset(engine.voices))
            assert chosen in engine.voices
            assert not chosen.startswith("en"), language
            assert audio(await speak(engine, "Bonjour, mes amis.", language=language)).size

    async def test_every_voice_it_lists_speaks(self, engine: Espeak, capfd: pytest.CaptureFixture[str]) -> None:
        assert len(engine.voices) > 100
        for voice in engine.voices:
            assert audio(await speak(engine, "ma 1", voice=voice)).size, voice
        assert capfd.readouterr() == ("", "")

    async def test_chinese_in_an_english_session_is_spoken_in_chinese(self, engine: Espeak) -> None:
        english = audio(await speak(engine, "今天天气很好", language="en"))
        chinese = audio(await speak(engine, "今天天气很好", language="zh"))
        assert english.size == pytest.approx(chinese.size, rel=0.05)

    async def test_pauses_stand_between_pieces_and_not_after_the_last(self, engine: Espeak) -> None:
        alone = sum([audio(await speak(engine, text)).size for text in ("I am fine.", "How are you?")])
        together = audio(await speak(engine, "I am fine.", "How are you?")).size
        assert samples_to_ms(together - alone, engine.sample_rate_hz) == pytest.approx(270, abs=40)

    async def test_marks_stand_between_what_a_reader_calls_words(self, engine: Espeak) -> None:
        for text, spoken in (
            ("It costs $1,234.56 (now).", ["It", "It costs", "It costs $1,234.56", "It costs $1,234.56 (now)."]),
            ("今天 ok", ["今", "今天", "今天 ok"]),
        ):
            assert [text[: mark.text_end] for mark in marks(await speak(engine, text))] == spoken

    async def test_a_faster_voice_takes_less_time(self, engine: Espeak) -> None:
        fast = Espeak(speed_wpm=350)
        quick = audio(await speak(fast, "We are going for a walk in the park.")).size
        assert quick < 0.7 * audio(await speak(engine, "We are going for a walk in the park.")).size
        await fast.aclose()

    async def test_odd_characters_are_survived(self, engine: Espeak) -> None:
        text = "\0 \ud800 a\u200db \x1b[31m <speak> [[x]] &amp; 👍🏽 ok"
        assert marks(await speak(engine, text))[-1].text_end == len(text)

    async def test_no_thread_is_left(self) -> None:
        before = set(threading.enumerate())
        engine = Espeak()
        await speak(engine, "Hello.")
        await engine.aclose()
        left = {thread.name for thread in set(threading.enumerate()) - before}
        assert not {name for name in left if not name.startswith("asyncio")}


class TestKokoro(TextToSpeechContract):
    @pytest_asyncio.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Kokoro]:
        engine = Kokoro(tiny_kokoro.make_weights(tmp_path / "kokoro-82m"))
        await engine.warm_up()
        yield engine
        await engine.aclose()
        await engine.aclose()

    async def test_it_speaks_the_languages_of_its_voices(self, engine: Kokoro) -> None:
        assert engine.voices == ("af_heart", "am_michael", "bf_emma", "ff_siwis", "zf_xiaoxiao")
        assert engine.capabilities.languages == {"en", "fr", "zh"}

    @pytest.mark.parametrize(
        ("text", "voice", "language", "chosen", "reader"),
        [
            ("Hello", None, None, "af_heart", "en-us"),
            ("Hello", None, "en", "af_heart", "en-us"),
            ("Hello", "bf_emma", None, "bf_emma", "en"),
            ("Salut", None, "fr", "ff_siwis", "fr"),
            ("Hello", "nobody", "fr-FR", "ff_siwis", "fr"),
            ("今天", None, "en", "zf_xiaoxiao", "cmn"),
            ("今天", "am_michael", None, "am_michael", "cmn"),
            ("Hola", None, "es", "af_heart", "es"),
            ("Hallo", None, "de", "af_heart", "en-us"),
        ],
    )
    async def test_the_voice_fits_the_text(
        self, engine: Kokoro, text: str, voice: str | None, language: str | None, chosen: str, reader: str
    ) -> None:
        assert engine.choose_voice(text, voice, language) == (chosen, reader)

    async def test_voices_sound_different(self, engine: Kokoro) -> None:
        one, other = [audio(await speak(engine, "Hello.", voice=voice)) for voice in ("af_heart", "bf_emma")]
        shorter = min(one.size, other.size)
        assert np.abs(one[:shorter] - other[:shorter]).max() > 0.1

    async def test_a_faster_voice_takes_less_time(self, engine: Kokoro, tmp_path: Path) -> None:
        fast = Kokoro(tmp_path / "kokoro-82m", speed=2)
        quick = audio(await speak(fast, "We are going for a walk in the park.")).size
        assert quick < 0.6 * audio(await speak(engine, "We are going for a walk in the park.")).size
        await fast.aclose()

    async def test_more_sounds_than_the_model_takes_are_spoken_in_runs(self, engine: Kokoro) -> None:
        text = "1111 " * 24
        assert samples_to_ms(audio(await speak(engine, text)).size, 24_000) > 510 * 62.5

    @pytest.mark.parametrize("broken", ["tokenizer.json", "voices/af_heart.bin", "onnx/model_quantized.onnx"])
    async def test_broken_weights_are_told(self, tmp_path: Path, broken: str) -> None:
        folder = tiny_kokoro.make_weights(tmp_path / "broken")
        (folder / broken).write_bytes(b"{}")
        engine = Kokoro(folder)
        with pytest.raises(EngineFailed, match="fetch"):
            await engine.warm_up()
        await engine.aclose()
