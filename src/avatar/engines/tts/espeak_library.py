"""espeak-ng as a function: text in, samples and word positions out. Owns the ctypes declarations and the one lock.

The library keeps its state (voice, rate, callback) in process-wide globals, so there is one of it and one call at a
time, whatever the number of engines. It knows no asyncio and nothing of streams. Constants and structures are those of
`espeak-ng/speak_lib.h`, version 1.52.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from avatar.core.errors import EngineFailed

_SYNCHRONOUS = 2  # audio goes to the callback, on the thread that called espeak_Synth
_CALLBACK_BUFFER_MS = 60
_CHARS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE = 1
_USUAL_WPM = 175
_WORD_EVENT = 1
_KEEP_GOING = 0
_IPA, _TIES = 0x02, 0x80
TIE = "^"
"""Between the letters of one sound."""


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Speech:
    """`pcm`: int16[n], mono, at the library's rate. `words`: (characters before the word, sample it begins at)."""

    pcm: NDArray[np.int16]
    words: tuple[tuple[int, int], ...]


class _Library:
    """The loaded library. Every call holds `_lock`; nothing here is safe without it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._native = ctypes.CDLL(espeakng_loader.get_library_path())
        self._native.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._native.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        )
        self._native.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._native.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
        self._data = Path(espeakng_loader.get_data_path())
        self.sample_rate_hz: int = self._native.espeak_Initialize(
            _SYNCHRONOUS, _CALLBACK_BUFFER_MS, str(self._data).encode(), 0
        )
        if self.sample_rate_hz <= 0:
            raise EngineFailed("espeak-ng cannot read its voice data: install the package `espeakng-loader` again.")
        self._pcm: list[NDArray[np.int16]] = []
        self._words: list[tuple[int, int]] = []
        self._callback: Callable[..., int] = _Callback(self._collect)  # kept alive as long as the library calls it
        self._native.espeak_SetSynthCallback(self._callback)
        self._state: tuple[str, int] | None = None

    def voices(self) -> tuple[str, ...]:
        """The names `synthesize` takes, sorted: `cmn`, `de`, `en` (British), `en-us`, … A name is that of the voice's
        file, which the library looks for; its language codes, such as `en-gb`, it does not look for."""
        with self._lock:
            voices = self._native.espeak_ListVoices(None)
            names, position = set(), 0
            while voices[position]:
                names.add(Path(voices[position].contents.identifier.decode()).name.lower())
                position += 1
        return tuple(sorted(name for name in names if self._has_dictionary(name)))

    def synthesize(self, text: str, voice: str, speed_wpm: int) -> Speech:
        """Speak `text` at once: about 1 ms for each 20 s of audio. Raises `EngineFailed` when the library does."""
        with self._lock:
            self._become(voice, speed_wpm)
            self._pcm, self._words = [], []
            data = text.replace("\0", " ").encode(errors="replace")
            status = self._native.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
            if status:
                raise EngineFailed("espeak-ng failed to speak; the next sentence may work.")
            pcm = np.concatenate(self._pcm) if self._pcm else np.zeros(0, np.int16)
            return Speech(pcm, tuple(self._words))

    def phonemes(self, text: str, voice: str) -> list[str]:
        """The sounds of each clause of `text` in IPA, with stress and `TIE`s; punctuation is not among them."""
        with self._lock:
            self._become(voice, self._state[1] if self._state else _USUAL_WPM)
            rest = ctypes.c_char_p(text.replace("\0", " ").encode(errors="replace"))
            clauses = []
            while rest.value:
                found = self._native.espeak_TextToPhonemes(
                    ctypes.byref(rest), _CHARS_UTF8, ord(TIE) << 8 | _TIES | _IPA
                )
                clauses.append(found.decode() if found else "")
            return clauses

    def _has_dictionary(self, voice: str) -> bool:
        """Some voices are packaged without theirs; the library would complain on stderr and spell every word."""
        return (self._data / f"{voice.partition('-')[0]}_dict").is_file()

    def _become(self, voice: str, speed_wpm: int) -> None:
        if self._state == (voice, speed_wpm):
            return
        if self._native.espeak_SetVoiceByName(voice.encode()):
            raise EngineFailed(f"espeak-ng has no voice {voice!r}: choose a language of its own, such as en-us or cmn.")
        self._native.espeak_SetParameter(_RATE, speed_wpm, 0)
        self._state = (voice, speed_wpm)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        """Called by the library for each buffer of audio; after the last without samples."""
        if samples and count:
            self._pcm.append(np.ctypeslib.as_array(samples, (count,)).copy())
        position = 0
        while events[position].type:  # the list ends with a type of 0
            if events[position].type == _WORD_EVENT:
                self._words.append((events[position].text_position - 1, events[position].sample))
            position += 1
        return _KEEP_GOING


_loading = threading.Lock()
_library: _Library | None = None


def library() -> _Library:
    """The one library of this process, loaded on first use (a few milliseconds: not on the event loop)."""
    global _library
    with _loading:
        if _library is None:
            _library = _Library()
        return _library
