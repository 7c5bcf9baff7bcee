"""The corpus as audio, with its truth: scripts spoken by espeak-ng, and recordings annotated by hand.

Every recording has room noise under it and silence after it, long enough for any turn to end. Recordings of people
are fetched with pip; only the scripts need nothing.
"""

import io
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from avatar.core.audio import INPUT_RATE_HZ, Pcm, ms_to_samples, resample, samples_to_ms, silence
from avatar.engines.tts.espeak import SAMPLE_RATE_HZ
from avatar.engines.tts.espeak_library import library
from tests.corpus import Utterance
from tests.speech import beckett, wheel

LEAD_MS = 500
TAIL_MS = 4000
_NOISE_DB = -66
"""RMS of a quiet room at a headset, measured in the recordings' own pauses (-52 to -66 dB)."""
_AUDIBLE = 0.004
"""-48 dB of full scale: where a word ends. espeak-ng adds some silence after it."""

_SLOW_PAUSE_MS = 700

_VOICE_PACKAGE = "moonshine-voice==0.1.5"
_CACHE = Path(__file__).parents[2] / ".pytest_cache" / "corpus"


@dataclass(frozen=True)
class Pause:
    """From the end of one sound to the start of the next. `said`: the words before it, where they are known."""

    start_ms: float
    end_ms: float
    may_end: bool
    said: str = ""

    def holds(self, at_ms: float) -> bool:
        """Is `at_ms` in it?"""
        return self.start_ms <= at_ms <= self.end_ms


@dataclass(frozen=True)
class Recording:
    """`pcm` (float32, mono, 16 kHz) and its truth: speech ends for good at `end_ms`, after `pauses`."""

    name: str
    kind: str
    language: str
    pcm: Pcm
    pauses: tuple[Pause, ...]
    end_ms: float

    def may_end(self, at_ms: float) -> bool:
        """Is it right, or no mistake, to take the turn at `at_ms`?"""
        return at_ms >= self.end_ms or any(p.may_end and p.holds(at_ms) for p in self.pauses)


def speak(utterance: Utterance) -> Recording:
    """A script as its speaker says it: each piece on its own, so that it has an intonation of its own."""
    sound, pauses = [silence(ms_to_samples(LEAD_MS, INPUT_RATE_HZ))], []
    end_ms, said = float(LEAD_MS), ""
    for piece in utterance.pieces:
        words = _audible(library().synthesize(piece.text, utterance.voice, utterance.speed_wpm).pcm / 32768)
        pause = silence(ms_to_samples(piece.pause_ms, INPUT_RATE_HZ))
        sound += [words, pause]
        said = f"{said} {piece.text}".strip()
        end_ms += samples_to_ms(words.size, INPUT_RATE_HZ)
        if pause.size:
            pauses.append(Pause(end_ms, end_ms + piece.pause_ms, piece.may_end, said))
            end_ms += piece.pause_ms
    pcm = _in_a_room(np.concatenate(sound))
    return Recording(utterance.name, utterance.kind, utterance.language, pcm, tuple(pauses), end_ms)


def people() -> list[Recording]:
    """Recordings: a man reads Dickens (one sentence of 40 s; no pause in it is its end) and Beckett (sentence by
    sentence), and a play by two neural voices, line by line; Dickens also more slowly."""
    dickens = [_pause(start, end) for start, end in _TWO_CITIES_PAUSES_MS]
    sentences = [_pause(start, end, may_end=True) for start, end in _BECKETT_PAUSES_MS]
    reading = _recording("A Tale of Two Cities", "reading", asset("two_cities.wav"), dickens, 41_690)
    return [
        reading,
        slower(reading, _SLOW_PAUSE_MS),
        _recording("Worstward Ho", "reading", beckett(), sentences, 8830),
        *_lines("Endgame", "dialogue", asset("endgame_nagg_nell.wav"), _ENDGAME_LINES_MS),
        *_lines("Worstward Ho", "sentence", beckett(), _BECKETT_LINES_MS),
    ]


def slower(recording: Recording, pause_ms: float) -> Recording:
    """The same with every pause at least `pause_ms` long: what was said before and after sounds as it did."""
    pcm, pauses, sound, heard = recording.pcm, [], [], 0
    longer_ms = 0.0
    for pause in recording.pauses:
        more_ms = max(0.0, pause_ms - (pause.end_ms - pause.start_ms))
        middle = ms_to_samples((pause.start_ms + pause.end_ms) / 2, INPUT_RATE_HZ)
        sound += [pcm[heard:middle], _noise(ms_to_samples(more_ms, INPUT_RATE_HZ))]
        heard = middle
        start_ms, longer_ms = pause.start_ms + longer_ms, longer_ms + more_ms
        pauses.append(Pause(start_ms, pause.end_ms + longer_ms, pause.may_end, pause.said))
    slow = np.concatenate([*sound, pcm[heard:]])
    name, kind = f"{recording.name}, pauses of {pause_ms:.0f} ms", f"slow {recording.kind}"
    return Recording(name, kind, recording.language, slow, tuple(pauses), recording.end_ms + longer_ms)


# Where sound stops and begins again, to some 20 ms: found by voice activity, checked by transcribing what lies between.
_TWO_CITIES_PAUSES_MS = (
    *((2900, 2980), (4640, 5020), (6240, 6660), (8220, 8830), (10_340, 10_750), (12_830, 13_470), (14_850, 15_140)),
    *((16_740, 17_570), (18_780, 18_980), (20_510, 21_250), (22_680, 22_720), (24_060, 24_670), (26_080, 26_590)),
    *((28_320, 29_090), (29_660, 29_950), (32_320, 32_800), (36_800, 36_930), (37_500, 37_600)),
)
_BECKETT_PAUSES_MS = ((1180, 1860), (2780, 3520), (4160, 4930), (5570, 6660), (7360, 8160))
_BECKETT_LINES_MS = ((0, 1180), (1500, 2780), (3200, 4160), (4600, 5570), (6300, 7360), (7900, 8830))
_ENDGAME_LINES_MS = (
    *((0, 928), (1250, 1824), (2150, 3296), (3600, 4224), (4550, 8096), (8400, 11_392), (11_700, 14_016)),
    *((14_350, 16_992), (17_300, 18_848), (19_150, 19_776), (20_100, 21_888), (22_200, 23_136), (23_450, 27_424)),
)


def _pause(start_ms: float, end_ms: float, may_end: bool = False) -> Pause:
    return Pause(start_ms + LEAD_MS, end_ms + LEAD_MS, may_end)


def _recording(name: str, kind: str, pcm: Pcm, pauses: list[Pause], end_ms: float) -> Recording:
    lead = silence(ms_to_samples(LEAD_MS, INPUT_RATE_HZ))
    return Recording(name, kind, "en", _in_a_room(np.concatenate([lead, pcm])), tuple(pauses), end_ms + LEAD_MS)


def _lines(name: str, kind: str, pcm: Pcm, lines_ms: tuple[tuple[int, int], ...]) -> list[Recording]:
    """Each line as a turn of its own, with 100 ms of the silence that follows it."""
    found = []
    for number, (start_ms, end_ms) in enumerate(lines_ms, 1):
        line = pcm[ms_to_samples(start_ms, INPUT_RATE_HZ) : ms_to_samples(end_ms + 100, INPUT_RATE_HZ)]
        found.append(_recording(f"{name} {number}", kind, line, [], end_ms - start_ms))
    return found


def _audible(pcm: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Pcm:
    """`pcm` (22.05 kHz) at 16 kHz, from its first to its last audible sample."""
    heard = resample(pcm.astype(np.float32), SAMPLE_RATE_HZ, INPUT_RATE_HZ)
    loud = np.flatnonzero(np.abs(heard) > _AUDIBLE)
    words: Pcm = heard[loud[0] : loud[-1] + 1]
    return words


def _in_a_room(pcm: Pcm) -> Pcm:
    """With silence after it and noise under it, the same in every run."""
    whole = np.concatenate([pcm, silence(ms_to_samples(TAIL_MS, INPUT_RATE_HZ))])
    heard: Pcm = whole + _noise(whole.size)
    return heard


def _noise(samples: int) -> Pcm:
    noise = np.random.default_rng(1).standard_normal(samples, dtype=np.float32)
    room: Pcm = noise * np.float32(10 ** (_NOISE_DB / 20))
    return room


@cache
def asset(name: str) -> Pcm:
    """A recording of the package `moonshine-voice`: float32, mono, 16 kHz."""
    with zipfile.ZipFile(wheel(_VOICE_PACKAGE, _CACHE)) as archive:
        data = archive.read(f"moonshine_voice/assets/{name}")
    pcm, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return resample(pcm if pcm.ndim == 1 else pcm.mean(axis=1), rate_hz, INPUT_RATE_HZ)
