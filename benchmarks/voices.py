"""Voices, measured: enrolment, the speaker encoder on human recordings, the watermark through what clips go through.

    python benchmarks/voices.py FOLDER        about five minutes; writes FOLDER/DATE-voices.md and .json

Enrolment runs against a server of its own with the embedded engines. Human speech comes from the package
`moonshine-voice`: two readings, a short clip of a third person, and a dialogue; the rest is spoken by espeak-ng.
"""

import asyncio
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import psutil
import soundfile
from tests.integration.serving import Server
from tests.integration.voices import VoiceClient, at_level, wav
from tests.speech import wheel
from threadpoolctl import ThreadpoolController

from avatar.core import watermark
from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample
from avatar.engines.tts.espeak_library import library
from avatar.engines.vad.silero import SileroVad
from avatar.settings import default_models_dir
from avatar.voices.embedding import SpeakerEncoder, cosine, mean_vector
from avatar.voices.quality import FRAME_SAMPLES, ONE_SPEAKER_COSINE, speakers_cosine, speech_bounds, spoken, trimmed

ROOT = Path(__file__).resolve().parents[1]
PORT = 8977
UPLOADS = 50
KEY = "avatar"
HUMANS = {
    "Beckett, read": "beckett.wav",
    "Dickens, read": "two_cities.wav",
    "a short clip": "clone-test.wav",
    "a dialogue": "endgame_nagg_nell.wav",
}
ONE_SPEAKER = tuple(HUMANS)[:3]
SPOKEN = (
    "The quick brown fox jumps over the lazy dog. We are going for a walk in the park, and the weather is nice today. "
    "It was the best of times, it was the worst of times.",
    "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better. There is nothing either good or bad, but "
    "thinking makes it so, and all the rest is silence.",
)
VOICES = "en-us en-us+f1 en-us+f2 en-us+f3 en-us+f4 en-us+m1 en-us+m2 en-us+m3 en-us+m4 en-us+m7 de fr es it".split()
RATE_HZ = 22_050
CLIP_S = (2, 3, 5, 8)
Clip = tuple[Pcm, int]


def humans() -> dict[str, Pcm]:
    """Every recording at 16 kHz."""
    cache = ROOT / ".pytest_cache" / "voices"
    with zipfile.ZipFile(wheel("moonshine-voice==0.1.5", cache)) as archive:
        return {name: _mono16(archive.read(f"moonshine_voice/assets/{file}")) for name, file in HUMANS.items()}


def _mono16(data: bytes) -> Pcm:
    pcm, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return resample(pcm if pcm.ndim == 1 else pcm.mean(axis=1).astype(np.float32), rate_hz, INPUT_RATE_HZ)


def machines() -> list[Pcm]:
    """What espeak-ng says, at 22.05 kHz."""
    spoken = [library().synthesize(text, voice, 170).pcm for voice in VOICES for text in SPOKEN]
    return [pcm.astype(np.float32) / np.float32(32768) for pcm in spoken]


# --- the speaker encoder ------------------------------------------------------------------------


async def speakers(recordings: dict[str, Pcm], models_dir: Path) -> dict[str, Any]:
    """Cosines, as enrolment would find them, and the time an embedding takes."""
    encoder, vad = SpeakerEncoder(models_dir / "ge2e-speaker"), SileroVad()
    await vad.warm_up()

    def speech(pcm: Pcm) -> list[float]:
        return vad.open().probabilities(np.pad(pcm, (0, -pcm.size % FRAME_SAMPLES)))

    def trim(pcm: Pcm) -> Pcm:
        bounds = speech_bounds(speech(pcm))
        assert bounds is not None
        return trimmed(pcm, INPUT_RATE_HZ, bounds)

    def parts_cosine(pcm: Pcm) -> float:
        return speakers_cosine(spoken(encoder.slices(pcm), speech(pcm)))

    with ThreadpoolController().limit(limits=1, user_api="blas"):
        ten_s = recordings["Dickens, read"][: 10 * INPUT_RATE_HZ]
        times = [_timed(lambda: encoder.embed(ten_s)) for _ in range(10)]
        windows = {name: encoder.windows(trim(pcm)) for name, pcm in recordings.items()}
        means = {name: mean_vector(found) for name, found in windows.items()}
        halves = {name: np.array_split(trim(recordings[name]), 2) for name in ONE_SPEAKER}
        return {
            "embedding_of_10_s_ms": {"median": float(np.median(times)), "max": max(times)},
            "two_people": {
                f"{one} / {other}": cosine(means[one], means[other]) for one, other in combinations(means, 2)
            },
            "halves_of_one": {name: cosine(*map(encoder.embed, both)) for name, both in halves.items()},
            "most_different_parts": {name: parts_cosine(trim(pcm)) for name, pcm in recordings.items()},
        }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


# --- enrolment ----------------------------------------------------------------------------------


async def enrolment(recording: bytes, models_dir: Path) -> dict[str, Any]:
    """Upload to ready, alone and fifty at once, and what the server's memory does meanwhile."""
    with tempfile.TemporaryDirectory() as data_dir:
        settings = {"DATA_DIR": data_dir, "MODELS_DIR": str(models_dir), "SERVER__PORT": str(PORT)}
        environment = os.environ | {f"AVATAR_{name}": value for name, value in settings.items()}
        server = subprocess.Popen(  # noqa: ASYNC220  (nothing waits for it)
            [sys.executable, "-c", "from avatar.cli import main; main()", "serve"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession() as http:
                client = VoiceClient(http, Server(f"http://127.0.0.1:{PORT}", None))  # type: ignore[arg-type]
                await _ready(client)
                return await _uploads(client, recording, psutil.Process(server.pid))
        finally:
            server.terminate()
            server.wait()


async def _ready(client: VoiceClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.call("GET", "/readyz"))[0] == 200:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def _uploads(client: VoiceClient, recording: bytes, server: psutil.Process) -> dict[str, Any]:
    alone = []
    for number in range(5):
        began = time.perf_counter()
        _, profile = await client.upload(recording, name=f"Alone {number}")
        assert (await client.enrolled(profile["id"]))["status"] == "ready"
        alone.append(time.perf_counter() - began)
    before_mib, most_mib = _memory_mib(server), 0.0
    began = time.perf_counter()
    answers = await asyncio.gather(*(client.upload(recording, name=f"Voice {n}") for n in range(UPLOADS)))
    ids = {profile["id"] for status, profile in answers if status == 202}
    ready: set[str] = set()
    while len(ready) < len(ids) and time.perf_counter() - began < 300:
        _, listed = await client.call("GET", "/api/voice-profiles?status=ready")
        ready = ids & {voice["id"] for voice in listed["voices"]}
        most_mib = max(most_mib, _memory_mib(server))
        await asyncio.sleep(0.1)
    return {
        "upload_to_ready_s": {"median": float(np.median(alone)), "max": max(alone)},
        "fifty": {"accepted": len(ids), "ready": len(ready), "seconds": time.perf_counter() - began},
        "memory_mib": {"before": before_mib, "most": most_mib},
    }


def _memory_mib(process: psutil.Process) -> float:
    return float(sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))) / (1 << 20)


# --- the watermark ------------------------------------------------------------------------------


def _through(codec: str, container: str, bitrate: int, frame: int) -> Callable[[Clip], Clip]:
    def attack(clip: Clip) -> Clip:
        pcm, file = resample(clip[0], clip[1], 24_000), io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=24_000, layout="mono")
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate = bitrate
            for start in range(0, pcm.size, frame):
                piece = av.AudioFrame.from_ndarray(
                    pcm[None, start : start + frame].copy(), format="fltp", layout="mono"
                )
                piece.sample_rate, piece.pts = 24_000, start
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
        file.seek(0)
        with av.open(file, "r") as back:
            parts = [piece.to_ndarray().mean(axis=0) for piece in back.decode(audio=0)]
            rate_hz = back.streams.audio[0].rate
        return np.concatenate(parts).astype(np.float32), rate_hz

    return attack


def _noisy(clip: Clip) -> Clip:
    noise = np.random.default_rng(0).normal(0, 0.1 * float(np.sqrt(np.mean(clip[0] ** 2))), clip[0].size)
    return (clip[0] + noise).astype(np.float32), clip[1]


ATTACKS: dict[str, Callable[[Clip], Clip]] = {
    "as it is": lambda clip: clip,
    "cut by 337 ms": lambda clip: (clip[0][int(0.337 * clip[1]) :], clip[1]),
    "8 kHz": lambda clip: (resample(clip[0], clip[1], 8_000), 8_000),
    "MP3 64 kbit/s": _through("libmp3lame", "mp3", 64_000, 1152),
    "MP3 32 kbit/s": _through("libmp3lame", "mp3", 32_000, 1152),
    "Opus 24 kbit/s": _through("libopus", "ogg", 24_000, 480),
    "Opus 12 kbit/s": _through("libopus", "ogg", 12_000, 480),
    "noise, 20 dB below": _noisy,
}


def marks(recordings: dict[str, Pcm]) -> dict[str, Any]:
    """How often the mark is found, by length of the clip and what was done to it, and how often where there is none."""
    speech = [(pcm, RATE_HZ) for pcm in machines()]
    people = [(pcm, INPUT_RATE_HZ) for pcm in recordings.values()]
    found: dict[str, Any] = {}
    for seconds in CLIP_S:
        marked = [clip for one in speech for clip in _clips(watermark.embed(*one, KEY), one[1], seconds)]
        plain = [clip for one in (*speech, *people) for clip in _clips(*one, seconds)]
        unmarked = [watermark.score(*clip, f"{KEY}{number}") for clip in plain for number in range(5)]
        rates = {
            name: float(np.mean([watermark.score(*attack(clip), KEY) > watermark.THRESHOLD for clip in marked]))
            for name, attack in ATTACKS.items()
        }
        false = sum(score > watermark.THRESHOLD for score in unmarked)
        found[f"{seconds} s"] = {
            "marked_clips": len(marked),
            "found": rates,
            "unmarked_scores": len(unmarked),
            "false": false,
            "highest_unmarked": max(unmarked),
        }
    return found


def _clips(pcm: Pcm, rate_hz: int, seconds: int) -> list[Clip]:
    size = seconds * rate_hz
    return [(pcm[start : start + size], rate_hz) for start in range(0, pcm.size - size + 1, size)]


# --- the report ---------------------------------------------------------------------------------


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    encoder, enrolled = result["speakers"], result["enrolment"]
    embedding, alone = encoder["embedding_of_10_s_ms"], enrolled["upload_to_ready_s"]
    fifty, memory = enrolled["fifty"], enrolled["memory_mib"]
    lines = [
        f"# Voices ({result['date']})\n",
        f"Machine: {result['machine']}. Load average before and after: {result['load']}. Commit {result['commit']}.",
        "Command: `python benchmarks/voices.py`.\n",
        "## Enrolment\n",
        "| what | median | most |\n|---|---|---|",
        f"| embedding of 10 s of audio, CPU | {embedding['median']:.0f} ms | {embedding['max']:.0f} ms |",
        f"| upload to ready, 10 s recording, transcribed, no GPU | {alone['median']:.2f} s | {alone['max']:.2f} s |",
        "",
        f"{UPLOADS} uploads at once: {fifty['accepted']} accepted, "
        f"{fifty['ready']} ready after {fifty['seconds']:.1f} s; "
        f"memory of the server and its decoders {memory['before']:.0f} MiB before, {memory['most']:.0f} MiB at most.\n",
        "## The speaker encoder on people\n",
        "GE2E cosine, recordings trimmed at both ends as enrolment does.\n",
        "| two people | cosine |\n|---|---|",
        *(f"| {pair} | {value:.3f} |" for pair, value in encoder["two_people"].items()),
        "",
        "| halves of one recording | cosine |\n|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in encoder["halves_of_one"].items()),
        "",
        f"| the parts that differ most (below {ONE_SPEAKER_COSINE}: more than one voice) | cosine |\n|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in encoder["most_different_parts"].items()),
        "",
        "## The watermark\n",
        f"Speech of {len(VOICES)} espeak-ng voices, marked, cut into clips; found above {watermark.THRESHOLD:g}. "
        "Unmarked: the same clips and those of people, each against five keys.\n",
        "| clip | " + " | ".join(ATTACKS) + " | unmarked: false, of, highest |",
        "|---" * (len(ATTACKS) + 2) + "|",
    ]
    for length, row in result["watermark"].items():
        rates = " | ".join(f"{row['found'][name]:.0%}" for name in ATTACKS)
        lines.append(
            f"| {length} | {rates} | {row['false']}, {row['unmarked_scores']}, {row['highest_unmarked']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


async def main(folder: Path) -> None:
    models_dir = Path(os.environ.get("AVATAR_MODELS_DIR") or default_models_dir())
    load = [round(os.getloadavg()[0], 1)]
    recordings = await asyncio.to_thread(humans)
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU, {platform.system()}",
        "enrolment": await enrolment(wav(at_level(recordings["Beckett, read"])), models_dir),
        "speakers": await speakers(recordings, models_dir),
        "watermark": await asyncio.to_thread(marks, recordings),
    }
    result["load"] = [*load, round(os.getloadavg()[0], 1)]
    (folder / f"{result['date']}-voices.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{result['date']}-voices.md").write_text(report(result))
    print(report(result))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
