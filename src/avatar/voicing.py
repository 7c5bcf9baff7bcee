"""Joins the enrolment of voices to the engines, the decoders and the weights that do its work.

With `service.py` the only code that sees engines and voices together; knows no settings object and no route.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from avatar.conversation.lineup import Lineup, Pick
from avatar.core.audio import Pcm
from avatar.core.errors import EngineFailed, Overloaded
from avatar.engines.base import ClonesVoices, Engine, SpeechToText, Stage, VoiceActivity
from avatar.hub import presence
from avatar.media.decoder import DecoderPool
from avatar.voices.enrolment import MAX_S, Enrolment, Means
from avatar.voices.folder import REFERENCE_RATE_HZ
from avatar.voices.library import VoiceLibrary
from avatar.voices.quality import FRAME_SAMPLES

SPEAKER_WEIGHTS = "ge2e-speaker"
NEEDED: tuple[Stage, ...] = ("vad", "stt", "tts")
"""What enrolment, and the measuring of a voice, works with."""


def enrolment(engine_for: Callable[[Stage], Engine], decoder: DecoderPool | None, models_dir: Path) -> Enrolment:
    """Enrolment with whatever engine serves a stage when a step needs it. Without a decoder it takes no recordings."""

    async def decode(data: bytes) -> Pcm:
        if decoder is None:
            raise Overloaded("There is no decoder here.")
        return await decoder.decode(data, max_s=MAX_S, rate_hz=REFERENCE_RATE_HZ)

    async def recognise(data: bytes) -> None:
        if decoder is not None:
            await decoder.recognise(data)

    def speech(pcm: Pcm) -> list[float]:
        vad = engine_for("vad")
        assert isinstance(vad, VoiceActivity)
        if vad.frame_samples != FRAME_SAMPLES:
            raise EngineFailed(
                f"Enrolment wants voice activity in frames of {FRAME_SAMPLES} samples, not {vad.frame_samples}."
            )
        return vad.open().probabilities(pcm)

    async def hear(pcm: Pcm, language: str | None) -> tuple[str, str | None]:
        stt = engine_for("stt")
        assert isinstance(stt, SpeechToText)
        return await transcribe(stt, pcm, language)

    def speaker_weights() -> Path:
        folder = presence.locate(models_dir, SPEAKER_WEIGHTS)
        if folder is None:
            raise EngineFailed(f"The speaker encoder is not here: run `avatar models fetch {SPEAKER_WEIGHTS}`.")
        return folder

    return Enrolment(Means(decode, recognise, speech, hear), speaker_weights)


async def transcribe(stt: SpeechToText, pcm: Pcm, language: str | None) -> tuple[str, str | None]:
    """What is said, and in which language; nothing if it is one that the transcriber does not know."""
    languages = stt.capabilities.languages
    if language and languages and language not in languages:
        return "", language
    stream = stt.open(language)
    try:
        stream.accept(pcm)
        heard = await stream.finish()
    finally:
        await stream.aclose()
    only = next(iter(languages)) if len(languages) == 1 else None
    return heard.text.strip(), heard.language or language or only


def introduce(lineup: Lineup, library: VoiceLibrary) -> None:
    """Let the library know the speech engine that serves now, once all that enrolment needs is there."""
    loaded = {stage: lineup.seats[stage].loaded for stage in NEEDED}
    tts = loaded["tts"]
    if tts is not None and all(loaded.values()):
        library.start((tts.engine,) if _clones(tts.engine) else ())  # type: ignore[arg-type]  # as just seen


def make_way(lineup: Lineup, first: Pick, choose: Callable[[str], Pick]) -> None:
    """A voice is ready: where speech comes from what the server began with and that clones nothing, load what `choose`
    makes now of the same engine, given its name. What somebody loaded by hand stays."""
    loaded = lineup.seats["tts"].loaded
    if loaded is not None and loaded.pick == first and not _clones(loaded.engine):
        lineup.reconsider("tts", partial(choose, loaded.pick.engine))


def _clones(engine: Engine) -> bool:
    return isinstance(engine, ClonesVoices) and engine.capabilities.clones


def serving(lineup: Lineup, stage: Stage) -> Engine:
    """What serves a stage now. Raises `Overloaded`."""
    seat = lineup.seats[stage]
    if seat.loaded is None:
        raise Overloaded(seat.why_not)
    return seat.loaded.engine
