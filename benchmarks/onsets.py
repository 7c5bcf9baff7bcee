"""The first sounds of a voice over a reply: after how much of them it is held, and what else holds it.

    PYTHONPATH=. python benchmarks/onsets.py        a minute; prints, with the sound that leads into a voice and without

Real voice activity and the real machine, no engine else. Voices: telephone prompts in English, French and Italian, from
Debian's packages (fetched with apt, unpacked with dpkg-deb). Noises: the sounds of two desktops, and made ones: bursts
like coughs, and typing. Each begins at three places of a frame, in a quiet room. Times count from the first audible
sample.
"""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample, silence
from avatar.core.lead_in import lead_in_frames
from avatar.core.turn_events import AskOverlap, Frame, ReplyBegan, ReplyHeard
from avatar.core.turns import TurnPolicy, TurnTaking
from avatar.engines.vad.silero import SileroVad

CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "onsets"
PROMPTS = ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-fr-wav", "asterisk-core-sounds-it-wav")
NO_SPEECH = ("silence", "beep", "tone")
DESKTOPS = ("sound-icons", "sound-theme-freedesktop")
SPEECH_TESTS = "channel"
"""In the name of a desktop's sounds that are words."""
EACH = 150
AUDIBLE, ROOM_RMS = 0.01, 0.0005
SIZE = SileroVad.frame_samples
FRAME_MS = SIZE * 1000 / INPUT_RATE_HZ
BEFORE_FRAMES = 14
"""As many as the ears keep."""


def sounds_of(package: str) -> list[Pcm]:
    """All there is in a package, in an order of chance."""
    folder = CACHE / package
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=CACHE, check=True)
        (archive,) = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    left_out = (*NO_SPEECH, SPEECH_TESTS)
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in {".wav", ".oga"})
    files = [path for path in files if not any(word in str(path.relative_to(folder)) for word in left_out)]
    chosen = np.random.default_rng(1).permutation(len(files))[:EACH]
    return [_read(files[index]) for index in chosen]


def _read(path: Path) -> Pcm:
    pcm, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(pcm.mean(axis=1), rate_hz, INPUT_RATE_HZ)


def made_noises() -> Iterator[Pcm]:
    """Bursts that die away, and keys that are struck."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        yield rng.uniform(0.05, 0.7) * _burst(rng, int(rng.uniform(0.03, 0.4) * INPUT_RATE_HZ), rng.uniform(0, 0.97))
    for _ in range(30):
        typing = silence(INPUT_RATE_HZ)
        for _ in range(rng.integers(3, 12)):
            key = rng.uniform(0.05, 0.5) * _burst(rng, int(rng.integers(40, 700)), 0.0)
            at = int(rng.integers(0, typing.size - key.size))
            typing[at : at + key.size] += key
        yield typing


def _burst(rng: np.random.Generator, samples: int, colour: float) -> Pcm:
    noise = rng.standard_normal(samples) * np.exp(-np.arange(samples) / (samples * rng.uniform(0.1, 0.4)))
    for index in range(1, samples):
        noise[index] += colour * noise[index - 1]
    return (noise / np.abs(noise).max()).astype(np.float32)


def held_after_ms(vad: SileroVad, sound: Pcm, place: int, *, led: bool) -> float | None:
    """When the reply is held, from the first audible sample of `sound` on; None: it is not."""
    audible = np.flatnonzero(np.abs(sound) > AUDIBLE)
    if not audible.size:
        return None
    before = INPUT_RATE_HZ + place
    pcm = np.concatenate([silence(before), sound[audible[0] : audible[0] + 24_000], silence(INPUT_RATE_HZ // 2)])
    pcm = pcm + np.random.default_rng(0).normal(0, ROOM_RMS, pcm.size).astype(np.float32)
    frames = pcm[: pcm.size // SIZE * SIZE].reshape(-1, SIZE)
    machine = TurnTaking(TurnPolicy())
    machine.step(ReplyBegan())
    machine.step(ReplyHeard())
    for index, probability in enumerate(vad.open().probabilities(frames.ravel())):
        lead_ms = 0.0
        if led and machine.may_begin_overlap(probability):
            lead_ms = lead_in_frames(list(frames[max(0, index - BEFORE_FRAMES) : index])) * FRAME_MS
        end_ms = (index + 1) * FRAME_MS
        actions = machine.step(Frame(end_ms - FRAME_MS, end_ms, probability, lead_ms))
        if any(isinstance(action, AskOverlap) for action in actions):
            return end_ms - before * 1000 / INPUT_RATE_HZ
    return None


def report(name: str, times_ms: Sequence[float | None]) -> str:
    held = [time for time in times_ms if time is not None]
    p50, p90, p95 = (float(np.percentile(held, rank)) for rank in (50, 90, 95))
    return f"| {name} | {len(held)} of {len(times_ms)} | {p50:.0f} | {p90:.0f} | {p95:.0f} |"


async def main() -> None:
    vad = SileroVad()
    await vad.warm_up()
    voices = [sound for package in PROMPTS for sound in sounds_of(package) if sound.size > INPUT_RATE_HZ // 2]
    noises = [*(sound for package in DESKTOPS for sound in sounds_of(package)), *made_noises()]
    print("| | held | after ms, p50 | p90 | p95 |\n|---|---|---|---|---|")
    for what, sounds in (("voices", voices), ("noises", noises)):
        for led in (False, True):
            times_ms = [held_after_ms(vad, sound, place, led=led) for sound in sounds for place in (0, 170, 340)]
            print(report(f"{what}, {'with' if led else 'without'} what leads into them", times_ms))


if __name__ == "__main__":
    asyncio.run(main())
