"""Measures a voice: speech made with it, held against its recording, and against what was to be said; and an engine:
whether what it says is understood.

Builds the engines the settings choose, in this process, and lets them go again. With `service.py`, `choosing.py` and
`voicing.py` it sees settings, engines and voices together.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from avatar import choosing, voicing
from avatar.conversation.lineup import Pick
from avatar.conversation.voices import Choice, say
from avatar.core.audio import INPUT_RATE_HZ, resample
from avatar.core.errors import EngineFailed, NoSpeech, NotFound, SetupError
from avatar.core.voices import Reference, VoiceProfile
from avatar.engines.base import ClonesVoices, Engine, SpeechToText, Stage, TextToSpeech
from avatar.settings import Settings
from avatar.store import Store
from avatar.voices.embedding import cosine, mean_vector
from avatar.voices.enrolment import condition, conditioning_key
from avatar.voices.folder import REFERENCE_RATE_HZ, VoiceFolder
from avatar.voices.similarity import ALIKE, SENTENCES, sentences, word_error_rate

_SAY_TIMEOUT_S = 300.0

WORD_ERRORS = 0.35
"""Of the words of what an engine says may be misheard: of espeak-ng, the least human of all, Moonshine tiny gets 16 %
wrong, and of babble nearly all."""
_READER = "espeak-ng"


@dataclass(frozen=True)
class Line:
    """One sentence. `word_error_rate`: None when the transcriber does not know the language."""

    said: str
    heard: str
    cosine: float
    word_error_rate: float | None


@dataclass(frozen=True)
class Score:
    """What was measured; `notice`: what to know about it."""

    engine: str
    cosine: float
    lines: tuple[Line, ...]
    notice: str = ""

    @property
    def verdict(self) -> str:
        """The cosine in words."""
        return "sounds like the same speaker" if self.cosine >= ALIKE else "sounds like another speaker"


async def score(settings: Settings, wanted: str) -> Score:
    """Speak in the enrolled voice `wanted` (id or name). Raises `NotFound`, `SetupError` without an engine."""
    async with AsyncExitStack() as closing:
        store = await Store.open(settings.data_dir)
        closing.push_async_callback(store.aclose)
        profile = _find(await store.voices.all(), wanted)
        engines = await _build(settings, closing)
        enrolment = voicing.enrolment(engines.__getitem__, None, settings.models_dir)
        folder, tts = VoiceFolder(settings.data_dir / "voices"), engines["tts"]
        assert isinstance(tts, TextToSpeech)
        choice = await _learn(tts, folder, profile)
        reference = await asyncio.to_thread(folder.embedding, profile.id)
        lines, vectors = [], []
        for text in sentences(profile.language):
            speech = await say(tts, text, choice, profile.language, _SAY_TIMEOUT_S)
            narrow = resample(speech.pcm, speech.rate_hz, INPUT_RATE_HZ)
            heard, _ = await enrolment.transcribe(narrow, profile.language or "en")
            try:
                vectors.append(await enrolment.embed_speech(speech.pcm, speech.rate_hz))
            except NoSpeech:
                raise EngineFailed(f"What {tts.name} made of “{text}” is no speech; choose another engine.") from None
            errors = word_error_rate(text, heard) if heard else None
            lines.append(Line(text, heard, cosine(reference, vectors[-1]), errors))
        return Score(tts.name, cosine(reference, mean_vector(np.stack(vectors))), tuple(lines), choice.notice)


@dataclass(frozen=True)
class Spoken:
    """A sentence, and what was heard of it."""

    said: str
    heard: str

    @property
    def word_error_rate(self) -> float:
        return word_error_rate(self.said, self.heard)


@dataclass(frozen=True)
class RoundTrip:
    """Sentences spoken by one engine and written down by another."""

    engine: str
    transcriber: str
    lines: tuple[Spoken, ...]

    @property
    def word_error_rate(self) -> float:
        """Of all sentences."""
        return sum(line.word_error_rate for line in self.lines) / len(self.lines)

    @property
    def is_understood(self) -> bool:
        return self.word_error_rate <= WORD_ERRORS


def speakers(key: str) -> list[str]:
    """The speech engines that a catalog key is weights of, or the one that has this name and needs none."""
    specs = [spec for spec in choosing.engine_specs() if spec.stage == "tts"]
    return [spec.name for spec in specs if key in spec.catalog_keys or (key == spec.name and not spec.weights)]


async def round_trip(settings: Settings, engine: str, model: str | None = None) -> RoundTrip:
    """Speak sentences with `engine` on the weights `model`, and let the transcriber of the settings write them down.

    An engine that clones is given the reading of another one to imitate. Raises `SetupError` if one of the two
    cannot be had or they share no language, `EngineError` if one fails or takes too long.
    """
    async with AsyncExitStack() as closing:
        stt = await _started(choosing.pick(settings, "stt", None, None), closing)
        tts = await _started(choosing.pick(settings, "tts", engine, model), closing)
        assert isinstance(stt, SpeechToText)
        assert isinstance(tts, TextToSpeech)
        language = _shared_language(tts, stt)
        choice, lines = Choice(None), []
        if isinstance(tts, ClonesVoices) and tts.capabilities.clones:
            choice = await _imitating(tts, settings, language, closing)
        for text in sentences(language):
            speech = await say(tts, text, choice, language, _SAY_TIMEOUT_S)
            narrow = resample(speech.pcm, speech.rate_hz, INPUT_RATE_HZ)
            lines.append(Spoken(text, (await voicing.transcribe(stt, narrow, language))[0]))
        return RoundTrip(tts.name, stt.name, tuple(lines))


async def _started(pick: Pick, closing: AsyncExitStack) -> Engine:
    engine = await asyncio.to_thread(pick.build)
    closing.push_async_callback(engine.aclose)
    await engine.warm_up()
    return engine


def _shared_language(tts: TextToSpeech, stt: SpeechToText) -> str:
    for language in SENTENCES:
        if all(not known or language in known for known in (tts.capabilities.languages, stt.capabilities.languages)):
            return language
    raise SetupError(f"{stt.name} knows no language of {tts.name} that there is a sentence for.")


async def _imitating(tts: ClonesVoices, settings: Settings, language: str, closing: AsyncExitStack) -> Choice:
    reader = await _started(choosing.pick(settings, "tts", _READER, None), closing)
    assert isinstance(reader, TextToSpeech)
    text = sentences(language)[0]
    read = await say(reader, text, Choice(None), language, _SAY_TIMEOUT_S)
    pcm = resample(read.pcm, read.rate_hz, REFERENCE_RATE_HZ)
    tts.learn(_READER, await tts.condition(Reference(pcm, REFERENCE_RATE_HZ, text, language)))
    return Choice(_READER, cloned=True)


def _find(profiles: list[VoiceProfile], wanted: str) -> VoiceProfile:
    for profile in profiles:
        if wanted in (profile.id, profile.name) and profile.status == "ready":
            return profile
    raise NotFound(f"There is no voice {wanted!r} that is ready; `avatar voices list` shows what there is.")


async def _build(settings: Settings, closing: AsyncExitStack) -> dict[Stage, Engine]:
    engines: dict[Stage, Engine] = {}
    chosen = [found for found in choosing.survey(settings) if found.stage in voicing.NEEDED]
    for stage, pick in choosing.picks(chosen, settings).items():
        engines[stage] = await _started(pick, closing)
    if len(engines) < len(voicing.NEEDED):
        raise SetupError("Scoring wants voice activity, speech to text and speech.")
    return engines


async def _learn(tts: TextToSpeech, folder: VoiceFolder, profile: VoiceProfile) -> Choice:
    if not (isinstance(tts, ClonesVoices) and tts.capabilities.clones):
        return Choice(None, notice=f"{tts.name} clones no voices: this is its default voice beside the recording.")

    def reference() -> Reference:
        text = profile.reference_text or ""
        return Reference(folder.reference(profile.id), REFERENCE_RATE_HZ, text, profile.language)

    key = conditioning_key(profile.content_sha256, profile.reference_text, profile.language)
    await condition(folder, (tts,), profile.id, key, reference)
    return Choice(profile.id, cloned=True)
