"""The decoder process: `python -m avatar.media.decoder_child`, started and fed by `decoder.DecoderPool` alone.

Audio from outside is parsed here and nowhere else, behind resource limits, because container parsers have holes.
Serves the jobs of `decoder_wire.py` until its stdin ends. Imports only what decodes.
"""

import io
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream

from avatar.core.audio import INPUT_RATE_HZ, Pcm, Resampler, silence
from avatar.media.decoder_wire import ANSWER, BAD_AUDIO, JOB, MAX_TEXT_BYTES, PCM, TOO_LONG
from avatar.media.formats import DECODERS, DEMUXERS, HEAD_BYTES, NOT_TAKEN, SNDFILE_SUBTYPES, is_for_sndfile

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

_BLOCK_S = 0.1
"""libsndfile is read in blocks of this length: memory does not grow with what a header claims, and no more than this
is lost where the file is cut."""

Blocks = Iterator[tuple[Pcm, int]]
"""Mono pieces with their sample rates."""


class Undecodable(Exception):
    """The text is for people: what the audio is not."""


class _Declined(Exception):
    """Nothing for libsndfile."""


class TooLong(Exception):
    """More audio than the job allows; what was decoded so far is dropped."""


def decode(data: bytes, max_samples: int, out_hz: int = INPUT_RATE_HZ) -> Pcm:
    """Decode a whole file to float32[n], mono, at `out_hz`, -1…1. Raises `Undecodable` and `TooLong`."""
    out, total = [], 0
    resampler, resampler_hz = Resampler(out_hz, out_hz), 0
    for mono, rate_hz in _blocks(data):
        if not resampler_hz:
            resampler, resampler_hz = Resampler(rate_hz, out_hz), rate_hz
        elif rate_hz != resampler_hz:
            raise Undecodable("The audio changes its sample rate half-way.")
        out.append(resampler.push(_sane(mono)))
        total += out[-1].size
        if total > max_samples:
            raise TooLong
    if resampler_hz != out_hz:
        out.append(resampler.push(silence(0), last=True))
    pcm = np.concatenate(out) if out else silence(0)
    if not pcm.size:
        raise Undecodable("The file holds no audio.")
    if pcm.size > max_samples:
        raise TooLong
    return _sane(pcm)


def _sane(pcm: Pcm) -> Pcm:
    """Damaged packets and float files hold any float there is; one NaN would silence the resampler for good."""
    return np.clip(np.nan_to_num(pcm, copy=False), -1.0, 1.0)


def _blocks(data: bytes) -> Blocks:
    """Decode with the first parser that can."""
    if is_for_sndfile(data[:HEAD_BYTES]):
        with suppress(_Declined):
            yield from _sndfile_blocks(data)
            return
    yield from _ffmpeg_blocks(data)


def _check(rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise Undecodable(f"The audio claims {rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are taken.")
    if not 1 <= channels <= MAX_CHANNELS:
        raise Undecodable(f"The audio claims {channels} channels; 1 to {MAX_CHANNELS} are taken.")


def _sndfile_blocks(data: bytes) -> Blocks:
    """WAV and its kin, AIFF, CAF, AU, FLAC, Ogg and MP3 through libsndfile. Raises `_Declined` before the first."""
    decoded = False
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.subtype not in SNDFILE_SUBTYPES.get(file.format, ()):
                raise _Declined
            _check(file.samplerate, file.channels)
            block = np.empty((int(file.samplerate * _BLOCK_S), file.channels), np.float32)
            while (read := file.read(out=block)).size:
                decoded = True
                yield read.mean(axis=1), file.samplerate
    except soundfile.SoundFileError:
        if not decoded:
            raise _Declined from None


def _ffmpeg_blocks(data: bytes) -> Blocks:
    """The rest through FFmpeg, with the listed demuxers and decoders; damaged packets are skipped."""
    options = {
        "format_whitelist": ",".join(DEMUXERS),
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",
    }
    decoded = False
    try:
        with av.open(io.BytesIO(data), "r", options=options) as container:
            stream = _audio_stream(container.streams.audio)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    _check(frame.sample_rate, frame.layout.nb_channels)
                    decoded = True
                    yield _mono(frame), frame.sample_rate
    except (av.FFmpegError, ValueError):
        if not decoded:
            raise Undecodable(NOT_TAKEN) from None


def _mono(frame: av.AudioFrame) -> Pcm:
    """The mean of the channels, -1…1, whatever kind of samples they are."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    full_scale = 1.0 if samples.dtype.kind == "f" else 2.0 ** (8 * samples.dtype.itemsize - 1)
    middle = full_scale if samples.dtype.kind == "u" else 0.0
    mixed: Pcm = (samples.mean(axis=0, dtype=np.float32) - np.float32(middle)) / np.float32(full_scale)
    return mixed


def _audio_stream(streams: tuple[AudioStream, ...]) -> AudioStream:
    if not streams:
        raise Undecodable("The file has no audio track.")
    context = streams[0].codec_context
    codec = getattr(context, "name", "something unknown")  # None for a codec that FFmpeg does not have
    if codec not in DECODERS:
        raise Undecodable(f"The audio is coded as {codec}, which is not taken here.")
    _check(context.sample_rate, context.channels)
    context.thread_count = 1
    return streams[0]


# --- the process --------------------------------------------------------------------------------


def main() -> None:
    """Warm up, lock the process down to `argv[1]` bytes of address space, then serve jobs."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _warm_up()
    limit_cpu = _lock_down(int(sys.argv[1]))
    _answer(answers, PCM, b"")
    while head := jobs.read(JOB.size):
        out_hz, max_samples, size, cpu_s = JOB.unpack(head)
        limit_cpu(cpu_s)
        _serve(jobs.read(size), max_samples, out_hz, answers)


def _warm_up() -> None:
    """One decode through each library: what they load late must be there before no file can be opened."""
    wav, webm, pcm = io.BytesIO(), io.BytesIO(), np.zeros((1, 960), np.float32)
    soundfile.write(wav, pcm[0], 48_000, format="WAV")
    with av.open(webm, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm, format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for file in (wav, webm):
        decode(file.getvalue(), INPUT_RATE_HZ)


def _serve(data: bytes, max_samples: int, out_hz: int, answers: BinaryIO) -> None:
    try:
        _answer(answers, PCM, decode(data, max_samples, out_hz).tobytes())
    except Undecodable as error:
        _answer(answers, BAD_AUDIO, str(error).encode()[:MAX_TEXT_BYTES])
    except TooLong:
        _answer(answers, TOO_LONG, b"")
    except MemoryError:
        _answer(answers, BAD_AUDIO, b"Decoding this file takes too much memory.")


def _answer(answers: BinaryIO, kind: int, payload: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(payload)) + payload)
    answers.flush()


def _lock_down(memory_bytes: int) -> Callable[[int], None]:
    """Give up what decoding does not need; returns how to allow the next seconds of CPU time.

    After this the process can open nothing at all (no file, no socket), write no file, and start no process or thread
    (root excepted, for processes). A limit that the platform lacks or refuses is left out: macOS has no address space
    limit that works.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):  # nothing a library prints reaches the answers or the server's log
        os.dup2(null, standard)
    os.close(null)

    def limit(name: str, soft: int, hard: int) -> None:
        with suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (soft, hard))

    for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_NOFILE"):
        limit(name, 0, 0)
    limit("RLIMIT_AS", memory_bytes, memory_bytes)

    def limit_cpu(seconds: int) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit("RLIMIT_CPU", int(used.ru_utime + used.ru_stime) + 1 + seconds, resource.RLIM_INFINITY)

    return limit_cpu


if __name__ == "__main__":
    main()
