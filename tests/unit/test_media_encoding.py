"""Speech files: whatever the format, what was said comes back, and most of it before the end."""

import io
import wave as wave_file

import av
import numpy as np
import pytest

from avatar.core.audio import Pcm, pcm16_to_float
from avatar.media.decoder_child import decode
from avatar.media.encoding import FORMATS, RATE_HZ, Format, SpeechEncoder
from avatar.media.tempo import Tempo

CONTAINERS: tuple[Format, ...] = ("mp3", "opus", "flac", "wav")


def tone(seconds: float, rate_hz: int, hz: float = 440.0) -> Pcm:
    wave: Pcm = (0.3 * np.sin(2 * np.pi * hz / rate_hz * np.arange(int(seconds * rate_hz)))).astype(np.float32)
    return wave


def encode(form: Format, pcm: Pcm, rate_hz: int, speed: float = 1.0, piece: int = 5000) -> bytes:
    encoder = SpeechEncoder(form, rate_hz, speed)
    pieces = [encoder.push(pcm[start : start + piece]) for start in range(0, pcm.size, piece)]
    return b"".join(pieces) + encoder.finish()


def pitch_hz(pcm: Pcm, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(spectrum.argmax()) * rate_hz / pcm.size


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("form", CONTAINERS)
def test_our_own_decoder_reads_it(form: Format, rate_hz: int) -> None:
    # Of a FLAC that does not say its length libsndfile loses the last 0.1 s.
    heard = decode(encode(form, tone(1.5, rate_hz), rate_hz), 16_000 * 3)
    assert heard.size / 16_000 == pytest.approx(1.5, abs=0.11)
    assert pitch_hz(heard, 16_000) == pytest.approx(440, abs=3)
    assert float(np.sqrt((heard**2).mean())) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_aac_is_aac() -> None:
    with av.open(io.BytesIO(encode("aac", tone(1, 22_050), 22_050)), "r", format="aac") as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        assert (stream.codec_context.name, stream.sample_rate) == ("aac", RATE_HZ)
    assert sum(frame.samples for frame in frames) / RATE_HZ == pytest.approx(1, abs=0.1)


def test_pcm_is_the_samples_and_nothing_else() -> None:
    pcm = tone(0.5, RATE_HZ)
    assert np.abs(pcm16_to_float(encode("pcm", pcm, RATE_HZ)) - pcm).max() < 1e-4


def test_wav_streams_as_others_do_it() -> None:
    data = encode("wav", tone(0.5, RATE_HZ), RATE_HZ)
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    with wave_file.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2)


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_come_with_the_first_pieces(form: Format) -> None:
    """200 ms of speech are enough for any format to begin, and a second for most of it to be out."""
    encoder = SpeechEncoder(form, RATE_HZ)
    assert encoder.push(tone(0.2, RATE_HZ))
    early = len(encoder.push(tone(1, RATE_HZ)))
    assert early > len(encoder.finish())


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_said_is_a_file_all_the_same(form: Format) -> None:
    data = encode(form, tone(0, RATE_HZ), RATE_HZ)
    assert (data == b"") == (form == "pcm")
    if form in ("mp3", "opus"):
        assert decode(data, 16_000).size < 2000


@pytest.mark.parametrize("piece", [1, 160, 6_000, 99_999])
@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.9, 1.0, 1.5, 2.0, 4.0])
def test_speed_changes_the_length_and_not_the_pitch(speed: float, piece: int) -> None:
    pcm = tone(1.0 if piece > 1 else 0.1, RATE_HZ)
    tempo = Tempo(speed, RATE_HZ)
    pieces = [tempo.push(pcm[start : start + piece]) for start in range(0, pcm.size, piece)]
    made = np.concatenate([*pieces, tempo.push(np.zeros(0, np.float32), last=True)])
    assert made.size == pytest.approx(pcm.size / speed, abs=0.1 * RATE_HZ / min(speed, 1))
    if piece > 1:
        assert pitch_hz(made, RATE_HZ) == pytest.approx(440, abs=12)


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.2, 4.0])
def test_a_new_pace_takes_little_time_to_begin(speed: float) -> None:
    tempo = Tempo(speed, 22_050)
    made = sum(tempo.push(tone(0.02, 22_050)).size for _ in range(10))
    assert made / 22_050 >= (0.2 - 0.14) / speed
