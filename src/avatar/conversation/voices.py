"""Which voice speaks: joins what a client asks for, the library of enrolled voices, and what the engine can do.

A voice that the engine cannot make still gets an answer, spoken with the engine's default, and the client is told.
Also speech outside of a session: a text to samples. Knows no transport.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from avatar.core.audio import Pcm, silence
from avatar.core.errors import BadMessage, EngineFailed, EngineTimeout, NotFound
from avatar.core.voices import VoiceProfile
from avatar.engines.base import TextToSpeech
from avatar.voices.library import VoiceLibrary


@dataclass(frozen=True)
class Choice:
    """What to give the engine as `voice`, and what to tell the client when that is not what was asked for."""

    voice: str | None
    cloned: bool = False
    notice: str = ""


@dataclass(frozen=True)
class Speech:
    """Spoken text: float32[n] at `rate_hz`."""

    pcm: Pcm
    rate_hz: int
    choice: Choice
    engine: str


def choose(wanted: str | None, library: VoiceLibrary, tts: TextToSpeech) -> Choice:
    """The voice for `wanted`: an engine's own, or the id or name of an enrolled one; None: `default_voice`.

    Raises `NotFound` for a voice that nobody has, `VoiceNotReady` with the reason for one that cannot speak yet.
    """
    if wanted is None:
        default = default_voice(library, tts)
        return choose(default.id, library, tts) if default else Choice(None)
    profile = library.find(wanted)
    if profile is None:
        if wanted in tts.voices:
            return Choice(wanted)
        some = ", ".join(tts.voices[:8])
        raise NotFound(f"There is no voice `{wanted}` here. Some that are: {some}.")
    library.ready(profile.id)
    if profile.id in tts.voices:
        return Choice(profile.id, cloned=True)
    if tts.capabilities.clones:
        why = "is still being learned by the speech engine; try again soon"
    else:
        why = f"cannot be spoken by {tts.name}, which clones no voices"
    return Choice(None, notice=f"The voice “{profile.name}” {why}. The default voice speaks instead.")


def default_voice(library: VoiceLibrary, tts: TextToSpeech) -> VoiceProfile | None:
    """The enrolled voice that speaks for those who choose none; None: the engine's own.

    An engine without a voice of its own would make one up: if none is the default, the first that was brought speaks.
    """
    if library.default or tts.capabilities.has_own_voices:
        return library.default
    return next((profile for profile in reversed(library.all()) if profile.status == "ready"), None)


async def say(tts: TextToSpeech, text: str, choice: Choice, language: str | None, timeout_s: float) -> Speech:
    """Speak all of `text`.

    Raises `EngineTimeout` after `timeout_s`; when nothing comes of it `EngineFailed`, or `BadMessage` if there is no
    letter and no digit in it.
    """

    async def pieces() -> AsyncIterator[str]:
        yield text

    try:
        async with (
            asyncio.timeout(timeout_s),
            aclosing(tts.speak(pieces(), voice=choice.voice, language=language)) as chunks,
        ):
            parts = [chunk.pcm async for chunk in chunks]
    except TimeoutError:
        raise EngineTimeout(f"Speaking this text took longer than {timeout_s:g} s; send a shorter one.") from None
    pcm = np.concatenate(parts) if parts else silence(0)
    if not pcm.size:
        why = "There is nothing in this text that could be spoken."
        raise EngineFailed(why) if any(char.isalnum() for char in text) else BadMessage(why)
    return Speech(pcm, tts.sample_rate_hz, choice, tts.name)
