"""Is it one speaker? How often enrolment's check says so wrongly, both ways.

    PYTHONPATH=. python benchmarks/one_speaker.py FOLDER        about ten minutes; writes FOLDER/DATE-one-speaker.md

People: the voices of telephone prompts and of a game, from Debian's packages (fetched with apt, unpacked with
dpkg-deb), and the readings and the dialogue of the package `moonshine-voice`. Of their clips recordings are made: turns
that two take, and the same cuts of one person alone, in a room, with noise, half of it quieter. Machines: espeak-ng.
"""

import asyncio
import datetime
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import av
import numpy as np
from threadpoolctl import ThreadpoolController

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample, silence
from avatar.engines.vad.silero import SileroVad
from avatar.settings import default_models_dir
from avatar.voices.embedding import SpeakerEncoder, Vectors, cosine, mean_vector
from avatar.voices.quality import (
    FRAME_SAMPLES,
    ONE_RECORDING_COSINE,
    ONE_SPEAKER_COSINE,
    parted,
    sides_cosine,
    speakers_cosine,
    speech_bounds,
    spoken,
    spoken_spans,
    trimmed,
)
from voices import ONE_SPEAKER, ROOT, _commit, humans, machines

CACHE = ROOT / ".pytest_cache" / "one_speaker"
PROMPTS = {
    "en-us f": "asterisk-core-sounds-en-g722",
    "fr-ca f": "asterisk-core-sounds-fr-g722",
    "it m": "asterisk-core-sounds-it-g722",
    "ru f": "asterisk-core-sounds-ru-g722",
    "es-co f": "asterisk-prompt-es-co",
    "fr f": "asterisk-prompt-fr-armelle",
    "it f": "asterisk-prompt-it-menardi-wav",
}
"""One person each."""
GAMES = {"cs": "fillets-ng-data-cs", "nl": "fillets-ng-data-nl"}
"""Two actors each: `-m-` and `-v-` in the names of the files."""
CLIP_S, ENOUGH_S = (1.0, 12.0), 150.0
TAKES = 3
LEVEL_DB = -23.0
TWO = {
    "turns of 1 s, 12 s": (1, 12, (0, 1)),
    "turns of 2 s, 12 s": (2, 12, (0, 1)),
    "turns of 3 s, 20 s": (3, 20, (0, 1)),
    "turns of 5 s, 20 s": (5, 20, (0, 1)),
    "a quarter of it, turns of 2 s, 20 s": (2, 20, (0, 0, 0, 1)),
    "turns of 2 s, 8 s": (2, 8, (0, 1)),
}
"""Seconds of a turn and of all, and whose turns follow each other."""
Rng = np.random.Generator


@dataclass
class Person:
    """Clips of speech, taken one after the other."""

    clips: Sequence[Pcm]
    at: int = 0

    def take(self, seconds: float) -> Pcm:
        """So much speech, at one loudness."""
        parts: list[Pcm] = []
        while sum(part.size for part in parts) < seconds * INPUT_RATE_HZ:
            parts.append(self.clips[self.at % len(self.clips)])
            self.at += 1
        pcm = np.concatenate(parts)[: int(seconds * INPUT_RATE_HZ)]
        return np.asarray(pcm * (10 ** (LEVEL_DB / 20) / max(float(np.sqrt(np.mean(pcm**2))), 1e-5)), np.float32)


def people(vad: SileroVad) -> dict[str, list[Pcm]]:
    """Everybody's clips at 16 kHz, without silence around them."""
    found = {name: _clips(_unpacked(package), "", vad) for name, package in PROMPTS.items()}
    for language, package in GAMES.items():
        found |= {f"{language} {who}": _clips(_unpacked(package), f"-{who}-", vad) for who in "mv"}
    return found


def _unpacked(package: str) -> Path:
    folder = CACHE / package
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=CACHE, check=True)
        (archive,) = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    return folder


def _clips(folder: Path, part: str, vad: SileroVad) -> list[Pcm]:
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in {".g722", ".gsm", ".wav", ".ogg"})
    files = [path for path in files if part in path.name]
    np.random.default_rng(0).shuffle(files)  # type: ignore[arg-type]  # a list will do
    clips: list[Pcm] = []
    for path in files:
        try:
            pcm = _decoded(path)
        except av.FFmpegError:  # some prompts are empty
            continue
        bounds = speech_bounds(vad.open().probabilities(np.pad(pcm, (0, -pcm.size % FRAME_SAMPLES))))
        if bounds is not None and CLIP_S[0] <= bounds[1] - bounds[0] <= CLIP_S[1]:
            clips.append(trimmed(pcm, INPUT_RATE_HZ, bounds))
        if sum(clip.size for clip in clips) > ENOUGH_S * INPUT_RATE_HZ:
            break
    return clips


def _decoded(path: Path) -> Pcm:
    with av.open(str(path)) as file:
        pcm = np.concatenate([frame.to_ndarray()[:1] for frame in file.decode(audio=0)], axis=1)[0]
        rate_hz = file.streams.audio[0].rate
    scaled = pcm / np.float32(32768) if pcm.dtype == np.int16 else pcm
    return resample(scaled.astype(np.float32), rate_hz, INPUT_RATE_HZ)


# --- recordings ---------------------------------------------------------------------------------


def talk(who: Sequence[Person], turn_s: float, total_s: float, order: Sequence[int], rng: Rng) -> Pcm:
    """Turns of about `turn_s`, with pauses between them."""
    parts: list[Pcm] = []
    while sum(part.size for part in parts) < total_s * INPUT_RATE_HZ:
        speaker = who[order[len(parts) // 2 % len(order)]]
        parts += [speaker.take(turn_s * rng.uniform(0.8, 1.2)), silence(int(rng.uniform(0.05, 0.5) * INPUT_RATE_HZ))]
    return np.concatenate(parts)


def in_a_room(pcm: Pcm, reverberation_s: float, rng: Rng) -> Pcm:
    """Noise that decays by 60 dB, after a direct sound."""
    size = int(reverberation_s * INPUT_RATE_HZ)
    response = rng.normal(size=size) * np.exp(-6.9 * np.arange(size) / size)
    response[0] = 4
    return np.convolve(pcm, response / np.sqrt(np.sum(response**2)))[: pcm.size].astype(np.float32)


def _half(pcm: Pcm, change: Callable[[Pcm], Pcm]) -> Pcm:
    return np.concatenate([pcm[: pcm.size // 2], change(pcm[pcm.size // 2 :])])


def _noisy(pcm: Pcm, rng: Rng) -> Pcm:
    return (pcm + rng.normal(0, 0.1 * float(np.sqrt(np.mean(pcm**2))), pcm.size)).astype(np.float32)


def recordings(pools: dict[str, list[Pcm]], readings: dict[str, Pcm]) -> Iterator[tuple[str, bool, Pcm]]:
    """What each is, whether two speak in it, and the sound."""
    rng = np.random.default_rng(11)
    for one, other in combinations(pools, 2):
        starts = rng.integers(0, 40, 2)
        for kind, (turn_s, total_s, order) in TWO.items():
            both = [Person(pools[name], int(start)) for name, start in zip((one, other), starts, strict=True)]
            yield kind, True, talk(both, turn_s, total_s, order, rng)
    for clips in pools.values():
        for _ in range(TAKES):
            person = Person(clips, int(rng.integers(0, 50)))
            for kind, (turn_s, total_s, _) in TWO.items():
                yield f"the same cuts: {kind}", False, talk([person], turn_s, total_s, (0,), rng)
            pcm = talk([person], 3, 20, (0,), rng)
            yield "45 s", False, talk([person], 4, 45, (0,), rng)
            yield "half of it 12 dB quieter", False, _half(pcm, lambda half: half * np.float32(0.25))
            yield "in a room (0.4 s)", False, in_a_room(pcm, 0.4, rng)
            yield "noise 20 dB below", False, _noisy(pcm, rng)
            yield "half of it in a room (0.5 s)", False, _half(pcm, lambda half: in_a_room(half, 0.5, rng))
    beckett, dickens = readings["Beckett, read"], readings["Dickens, read"]
    for start_s in range(0, 34, 3):
        part = dickens[start_s * INPUT_RATE_HZ :][: 10 * INPUT_RATE_HZ]
        yield "Beckett, then Dickens", True, np.concatenate([beckett, part])
        yield "Dickens, then Beckett", True, np.concatenate([part, beckett])
    for name, pcm in readings.items():
        yield name, name not in ONE_SPEAKER, pcm
        for _ in range(8):
            size = min(pcm.size, int(rng.uniform(6, 20) * INPUT_RATE_HZ))
            start = int(rng.integers(0, pcm.size - size + 1))
            yield f"{name}, parts", name not in ONE_SPEAKER, pcm[start : start + size]
    for pcm in machines():
        yield "espeak-ng, one voice", False, resample(pcm, 22_050, INPUT_RATE_HZ)


# --- what the check says ------------------------------------------------------------------------


Cosines = tuple[float, float, float]
"""The two that enrolment finds, and the one it found before: on windows of 1.6 s, pauses included."""


def judged(pcm: Pcm, vad: SileroVad, encoder: SpeakerEncoder) -> Cosines | None:
    """None where nobody speaks."""
    pcm = np.clip(pcm, -1, 1)
    probabilities = vad.open().probabilities(np.pad(pcm, (0, -pcm.size % FRAME_SAMPLES)))
    if (bounds := speech_bounds(probabilities)) is None:
        return None
    first, last = (round(second * INPUT_RATE_HZ / FRAME_SAMPLES) for second in bounds)
    pcm = trimmed(pcm, INPUT_RATE_HZ, bounds)
    speech = probabilities[first:last]
    now = speakers_cosine(spoken(encoder.slices(pcm), speech))
    return now, sides_cosine(spoken_spans(encoder.spans(pcm), speech)), _before(encoder.windows(pcm))


def _before(windows: Vectors) -> float:
    """As it was: 4 windows were enough, and 15 % of them a person."""
    side = parted(windows) if len(windows) >= 4 else None
    if side is None or min(side.mean(), 1 - side.mean()) < 0.15:
        return 1.0
    return cosine(mean_vector(windows[side]), mean_vector(windows[~side]))


def report(found: Sequence[tuple[str, bool, Cosines]]) -> str:
    """Error rates by kind, and by threshold."""
    by_kind: dict[tuple[bool, str], list[Cosines]] = defaultdict(list)
    for kind, is_two, cosines in found:
        by_kind[is_two, kind].append(cosines)
    lines = [f"# One speaker or two ({datetime.date.today().isoformat()})\n"]
    lines += [
        f"Commit {_commit()}. Command: `PYTHONPATH=. python benchmarks/one_speaker.py`.",
        (__doc__ or "").split("\n\n")[2],
        "",
    ]
    lines += [
        "| recording | how many | said to be more than one voice | by slices alone | before | lowest, median, highest"
    ]
    lines[-1] += " cosine of slices | of sides |"
    lines += ["|---|---|---|---|---|---|---|"]
    for (is_two, kind), cosines in sorted(by_kind.items()):
        now, sides, before = (np.array(values) for values in zip(*cosines, strict=True))
        spread, of_sides = (
            ", ".join(f"{value:.3f}" for value in np.percentile(of, (0, 50, 100))) for of in (now, sides)
        )
        either = (now < ONE_SPEAKER_COSINE) | (sides < ONE_RECORDING_COSINE)
        who = "two" if is_two else "one"
        lines += [
            f"| {who}: {kind} | {len(now)} | {np.mean(either):.0%} | {np.mean(now < ONE_SPEAKER_COSINE):.0%} | "
            f"{np.mean(before < BEFORE):.0%} | {spread} | {of_sides} |"
        ]
    lines += [
        "",
        "All but “half of it in a room”:\n",
        "| limit | one person refused | two people accepted |",
        "|---|---|---|",
    ]
    usual = [(is_two, cosines) for kind, is_two, cosines in found if "half of it in a room" not in kind]
    tables = (
        ("slices", (0.76, 0.78, 0.80, 0.82, 0.84, 0.86), lambda now, sides, before, limit: now < limit),
        (
            f"slices {ONE_SPEAKER_COSINE:.2f}, or sides",
            (0.76, 0.78, 0.80, 0.82),
            lambda now, sides, before, limit: now < ONE_SPEAKER_COSINE or sides < limit,
        ),
        ("before", (0.70, BEFORE, 0.84), lambda now, sides, before, limit: before < limit),
    )
    for name, limits, is_refused in tables:
        for limit in limits:
            wrong = np.mean([is_refused(*cosines, limit) for is_two, cosines in usual if not is_two])
            missed = np.mean([not is_refused(*cosines, limit) for is_two, cosines in usual if is_two])
            lines += [f"| {name} {limit:.2f} | {wrong:.1%} | {missed:.1%} |"]
    return "\n".join(lines) + "\n"


BEFORE = 0.78
"""The limit before, on its own cosine."""


def alike(pools: dict[str, list[Pcm]], encoder: SpeakerEncoder) -> str:
    """How alike the people are as wholes: what the encoder itself takes for one person, no check can tell apart."""
    means = {
        name: mean_vector(encoder.windows(np.concatenate(clips)[: 30 * INPUT_RATE_HZ])) for name, clips in pools.items()
    }
    pairs = {f"{one} / {other}": cosine(means[one], means[other]) for one, other in combinations(means, 2)}
    close = sorted(((value, pair) for pair, value in pairs.items()), reverse=True)[:8]
    listed = "\n".join(f"| {pair} | {value:.3f} |" for value, pair in close)
    head = "The most alike pairs, 30 s of each (0.75 and more: taken for the same):"
    return f"\n{head}\n\n| pair | cosine |\n|---|---|\n{listed}\n"


async def main(folder: Path) -> None:
    vad, encoder = SileroVad(), SpeakerEncoder(default_models_dir() / "ge2e-speaker")
    await vad.warm_up()
    pools, readings = people(vad), humans()
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        found = [
            (kind, is_two, cosines)
            for kind, is_two, pcm in recordings(pools, readings)
            if (cosines := judged(pcm, vad, encoder)) is not None
        ]
        text = report(found) + alike(pools, encoder)
    (folder / f"{datetime.date.today().isoformat()}-one-speaker.md").write_text(text)
    print(text)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
