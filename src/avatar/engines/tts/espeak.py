"""espeak-ng as a `TextToSpeech`: any language, no weights, first audio in milliseconds.

A part of a sentence or two is spoken whole on the engine's one thread (about 5 ms). Owns the choice of the voice and
the marks; `parts` cuts the text, `espeak_library` owns the library itself.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from avatar.engines.base import Capabilities, Mark, SpeechChunk
from avatar.engines.tts.espeak_library import library
from avatar.engines.tts.parts import Part, speak_parts

SAMPLE_RATE_HZ = 22_050
_PART_CHARS = 200  # about 12 s of speech and 5 ms of work
_PAUSE_WPM = 175  # at which the pauses between parts are as they are

DEFAULT_VOICE = "en-us"
_LANGUAGES = frozenset(
    "af am ar as az ba be bg bn bs ca cs cv cy da de el en eo es et eu fa fi fr ga gd gn gu he hi hr ht hu hy ia id io "
    "is it ja ka kk kl kn ko ku ky la lb lt lv mi mk ml mr ms mt my ne nl om or pa pl pt qu ro ru sd si sk sl sq "
    "sr sv sw ta te th tk tn tr tt ug uk ur uz vi zh".split()
)
_VOICE_OF = {"zh": "cmn", "zh-cn": "cmn", "en-gb": "en", "fr-fr": "fr"}  # what the library calls otherwise
_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")

# The first of these scripts found in a text asks for its voice, unless the voice already reads it.
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SCRIPTS = (
    (re.compile("[\u3040-\u30ff]"), "ja", {"ja"}),
    (re.compile("[\uac00-\ud7af]"), "ko", {"ko"}),
    (re.compile(f"[{_HAN}]"), "cmn", {"cmn", "yue", "hak", "ja", "ko"}),
)
_CJK = re.compile(f"[\u3040-\u30ff\uac00-\ud7af{_HAN}]")
_EMOJI = re.compile("[\u2600-\u27bf\ufe0f\u200d\U0001f000-\U0001faff]")

_OPENERS = "\"'“‘([«「『（"
_AUDIBLE = 64  # of 32768, -54 dB
_LEAD_SAMPLES = SAMPLE_RATE_HZ // 500


class Espeak:
    """Speaks with espeak-ng. `voice`: a name of `voices`; `speed_wpm`: words per minute, 80…450."""

    sample_rate_hz = SAMPLE_RATE_HZ
    capabilities = Capabilities(languages=_LANGUAGES, streams=True, concurrent=64)

    def __init__(self, voice: str = "", speed_wpm: int = 175) -> None:
        self._default = voice or DEFAULT_VOICE
        self._speed_wpm = speed_wpm
        self._known: tuple[str, ...] = ()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="espeak")

    @property
    def name(self) -> str:
        return f"espeak-ng ({self._default})"

    @property
    def voices(self) -> tuple[str, ...]:
        """The default, its variants (`en-us+f3`), then every other language's; before `warm_up` the default alone."""
        variants = () if "+" in self._default else tuple(f"{self._default}+{variant}" for variant in _VARIANTS)
        return (self._default, *variants * bool(self._known), *(v for v in self._known if v != self._default))

    async def warm_up(self) -> None:
        await self._run("Hello.", None, None)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._worker.shutdown)

    def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        pace = self._speed_wpm / _PAUSE_WPM
        return speak_parts(
            text, lambda words: self._run(words, voice, language), SAMPLE_RATE_HZ, max_chars=_PART_CHARS, pace=pace
        )

    async def _run(self, text: str, voice: str | None, language: str | None) -> Part:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._synthesize, text, voice, language)

    def _synthesize(self, text: str, voice: str | None, language: str | None) -> Part:
        self._known = self._known or library().voices()
        name = choose_voice(text, voice, language, self._default, self._known)
        speech = library().synthesize(_EMOJI.sub(" ", text), name, self._speed_wpm)
        lead = _leading_silence(speech.pcm)
        pcm = speech.pcm[lead:].astype(np.float32) / np.float32(32768)
        marks = [Mark(0, 0)]
        for char, sample in speech.words:
            spoken = len(text[:char].rstrip(_OPENERS).rstrip())
            if _begins_word(text, char) and spoken > marks[-1].text_end:
                marks.append(Mark(spoken, min(max(sample - lead, marks[-1].sample), pcm.size)))
        return Part(pcm, (*marks[1:], Mark(len(text), pcm.size)))


def choose_voice(text: str, voice: str | None, language: str | None, default: str, known: Collection[str]) -> str:
    """The voice for `text`: the one asked for, but one that can read its script.

    The default gives way to the voice of `language`; what is unknown, to the default. A variant (`+f3`) is kept.
    """
    wanted = voice if voice and _base(voice) in known else default
    base, variant = _base(wanted), wanted.partition("+")[2]
    if base not in known:
        base = DEFAULT_VOICE
    if language and wanted == default and not base.startswith(language.lower()):
        spoken = DEFAULT_VOICE if language.lower() == "en" else _base(language)
        base = spoken if spoken in known else base
    for script, reader, readers in _SCRIPTS:
        if script.search(text):
            base = base if base in readers else reader
            break
    return f"{base}+{variant}" if variant else base


def _base(voice: str) -> str:
    name = voice.lower().partition("+")[0]
    return _VOICE_OF.get(name, name)


def _begins_word(text: str, char: int) -> bool:
    """Numbers are reported word by word inside themselves; only what a reader calls a word gets a mark."""
    return char < len(text) and (text[:char].rstrip(_OPENERS)[-1:].isspace() or bool(_CJK.match(text[char])))


def _leading_silence(pcm: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> int:
    """Samples to drop so that sound begins within 2 ms; espeak-ng gives up to 50 ms of silence before a plosive."""
    return max(int(np.argmax(np.abs(pcm) > _AUDIBLE)) - _LEAD_SAMPLES, 0)
