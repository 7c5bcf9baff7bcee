"""What the decoder process takes and refuses, called as a function."""

import io
import struct

import numpy as np
import pytest
import soundfile

from avatar.core.audio import Pcm
from avatar.media.decoder_child import TooLong, Undecodable, decode
from tests.load.recorder import record, record_webm

MINUTE_SAMPLES = 60 * 16_000


def tone(rate_hz: int, seconds: float = 1.0) -> Pcm:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def sndfile(pcm: Pcm, rate_hz: int, container: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def wav_header(rate_hz: int, channels: int, data_bytes: int = 8, bits: int = 16) -> bytes:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, (rate_hz * block) & 0xFFFFFFFF, block & 0xFFFF, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", (4 + len(chunks) + data_bytes) & 0xFFFFFFFF) + b"WAVE" + chunks


FILES = {
    "webm opus": record_webm(tone(48_000), 48_000),
    "ogg opus": record(tone(48_000), 48_000, "ogg", "libopus"),
    "ogg vorbis": sndfile(tone(44_100), 44_100, "OGG", "VORBIS"),
    "mp4 aac": record(tone(44_100), 44_100, "mp4", "aac", coded_hz=44_100),
    "mp4 opus": record(tone(48_000), 48_000, "mp4", "libopus"),
    "mp4 mp3": record(tone(44_100), 44_100, "mp4", "libmp3lame", coded_hz=44_100),
    "mp3": record(tone(44_100), 44_100, "mp3", "libmp3lame", coded_hz=44_100),
    "mp3 without a tag": sndfile(tone(44_100), 44_100, "MP3", "MPEG_LAYER_III"),
    "flac 24 bit": sndfile(tone(48_000), 48_000, "FLAC", "PCM_24"),
    "wav 8 kHz": sndfile(tone(8_000), 8_000, "WAV", "PCM_16"),
    "wav 16 kHz": sndfile(tone(16_000), 16_000, "WAV", "PCM_16"),
    "wav 96 kHz": sndfile(tone(96_000), 96_000, "WAV", "PCM_32"),
    "wav 24 bit": sndfile(tone(44_100), 44_100, "WAV", "PCM_24"),
    "wav float": sndfile(tone(44_100), 44_100, "WAV", "FLOAT"),
    "wav u-law": sndfile(tone(8_000), 8_000, "WAV", "ULAW"),
    "wav extensible": sndfile(tone(44_100), 44_100, "WAVEX", "PCM_16"),
    "wave 64": sndfile(tone(44_100), 44_100, "W64", "PCM_16"),
    "rf64": sndfile(tone(44_100), 44_100, "RF64", "PCM_16"),
    "aiff": sndfile(tone(44_100), 44_100, "AIFF", "PCM_24"),
    "au": sndfile(tone(8_000), 8_000, "AU", "ULAW"),
    "caf": sndfile(tone(44_100), 44_100, "CAF", "PCM_16"),
    "caf alac": sndfile(tone(44_100), 44_100, "CAF", "ALAC_16"),
    "aac": record(tone(44_100), 44_100, "adts", "aac", coded_hz=44_100),
    "amr": record(tone(8_000), 8_000, "amr", "libopencore_amrnb", coded_hz=8_000),
    "wma": record(tone(44_100), 44_100, "asf", "wmav2", coded_hz=44_100),
    "mp4 alac": record(tone(48_000), 48_000, "mp4", "alac"),
    "mp4 flac": record(tone(48_000), 48_000, "mp4", "flac"),
    "3gp amr": record(tone(8_000), 8_000, "3gp", "libopencore_amrnb", coded_hz=8_000),
    "quicktime pcm": record(tone(44_100), 44_100, "mov", "pcm_s16be", coded_hz=44_100),
    "matroska aac": record(tone(44_100), 44_100, "matroska", "aac", coded_hz=44_100),
    "matroska flac": record(tone(44_100), 44_100, "matroska", "flac", coded_hz=44_100),
    "matroska pcm": record(tone(44_100), 44_100, "matroska", "pcm_s24le", coded_hz=44_100),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_second_of_440_hz_stays_a_second_of_440_hz(data: bytes) -> None:
    pcm = decode(data, MINUTE_SAMPLES)

    assert pcm.dtype == np.float32
    assert pcm.ndim == 1
    assert pcm.size == pytest.approx(16_000, abs=1600)  # AAC and MP3 pad their ends
    middle = pcm[4_000:12_000]
    assert np.abs(np.fft.rfft(middle)).argmax() * 2 == pytest.approx(440, abs=2)
    assert float(np.abs(middle).max()) == pytest.approx(0.3, rel=0.25)


def test_channels_are_mixed() -> None:
    stereo = np.stack([tone(16_000), -tone(16_000) / 2], axis=1)

    pcm = decode(sndfile(stereo, 16_000, "WAV", "PCM_16"), MINUTE_SAMPLES)

    np.testing.assert_allclose(pcm, tone(16_000) / 4, atol=1e-4)


def test_samples_beyond_full_scale_are_clipped() -> None:
    assert float(np.abs(decode(sndfile(tone(16_000) * 10, 16_000, "WAV", "FLOAT"), MINUTE_SAMPLES)).max()) == 1.0


def test_what_is_not_a_number_is_silence_and_harms_nothing_after_it() -> None:
    pcm = tone(48_000)
    pcm[100], pcm[101], pcm[102] = np.nan, np.inf, -3e38

    decoded = decode(sndfile(pcm, 48_000, "WAV", "FLOAT"), MINUTE_SAMPLES)

    np.testing.assert_allclose(decoded[200:15_000], tone(16_000)[200:15_000], atol=0.01)


@pytest.mark.parametrize("data", [FILES["wav 16 kHz"], FILES["flac 24 bit"], FILES["webm opus"], FILES["mp4 aac"]])
def test_longer_than_allowed_is_refused(data: bytes) -> None:
    with pytest.raises(TooLong):
        decode(data, 15_000)


def test_exactly_as_long_as_allowed_is_taken() -> None:
    assert decode(FILES["wav 16 kHz"], 16_000).size == 16_000


LONG = tone(48_000, 10) + np.random.default_rng(2).normal(0, 0.1, 480_000).astype(np.float32)
TEN_SECONDS = {
    "webm opus": record_webm(LONG, 48_000),
    "ogg opus": record(LONG, 48_000, "ogg", "libopus"),
    "ogg vorbis": sndfile(LONG, 48_000, "OGG", "VORBIS"),
    "mp3": record(LONG, 48_000, "mp3", "libmp3lame"),
    "flac": sndfile(LONG, 48_000, "FLAC", "PCM_24"),
    "wav": sndfile(LONG, 48_000, "WAV", "PCM_16"),
}


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("name", TEN_SECONDS)
def test_a_cut_file_gives_its_beginning(name: str, tenth: int) -> None:
    whole = TEN_SECONDS[name]

    try:
        seconds = decode(whole[: len(whole) * tenth // 10], MINUTE_SAMPLES).size / 16_000
    except Undecodable:  # cut within its first page, an Ogg file holds nothing yet
        seconds = 0.0

    assert tenth - 1.5 < seconds < tenth + 0.5


def test_an_mp4_without_its_index_is_refused() -> None:
    """The index (`moov`) stands at the end: without it there is no beginning to give."""
    with pytest.raises(Undecodable):
        decode(FILES["mp4 aac"][: len(FILES["mp4 aac"]) // 2], MINUTE_SAMPLES)


REFUSED = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"this is no audio at all, whatever its name says",
    "random": np.random.default_rng(5).bytes(20_000),
    "webm magic only": b"\x1aE\xdf\xa3",
    "webm magic, then zeros": b"\x1aE\xdf\xa3" + bytes(5_000),
    "ogg magic, then zeros": b"OggS" + bytes(5_000),
    "flac magic, then zeros": b"fLaC" + bytes(5_000),
    "mp4 magic, then zeros": b"\0\0\0\x18ftypisom" + bytes(5_000),
    "mp3 sync, then zeros": b"\xff\xfb\x90\x00" + bytes(5_000),
    "a tag and no mp3": b"ID3\x04\0\0\0\0\0\x00" + bytes(5_000),
    "wav at 2^31-1 Hz": wav_header(2**31 - 1, 1) + bytes(8),
    "wav at 7999 Hz": wav_header(7_999, 1) + bytes(8),
    "wav at 0 Hz": wav_header(0, 1) + bytes(8),
    "wav of 9 channels": wav_header(16_000, 9, 18) + bytes(18),
    "wav of 65535 channels": wav_header(16_000, 65_535) + bytes(8),
    "wav of no channel": wav_header(16_000, 0) + bytes(8),
    "wav without a sample": wav_header(16_000, 1, 0),
    "wav with 64 bit": record(tone(48_000), 48_000, "wav", "pcm_s64le"),
    "wmv magic, then zeros": bytes.fromhex("3026b2758e66cf11") + bytes(5_000),
    "amr magic, then nonsense": b"#!AMR\n" + b"\xff" * 5_000,
    "aac sync, then zeros": b"\xff\xf1" + bytes(5_000),
    "caf magic, then zeros": b"caff" + bytes(5_000),
    "webm with a codec nobody knows": FILES["webm opus"].replace(b"A_OPUS", b"A_SUPO"),
    "a playlist of other files": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nvoice.wav\n#EXT-X-ENDLIST\n",
    "a list of files to join": b"ffconcat version 1.0\nfile 'voice.wav'\n",
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "a script that makes sound": b"SBaGen\n-SE\nnow test\ntest: 300+10/20 pink/40\n",
    "raw samples": (tone(48_000) * 32767).astype("<i2").tobytes(),
    "wav renamed to webm": b"\x1aE\xdf\xa3" + FILES["wav 16 kHz"][4:],
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(Undecodable) as refusal:
        decode(data, MINUTE_SAMPLES)

    assert str(refusal.value).endswith((".", "here."))


def test_a_size_that_is_only_claimed_costs_nothing() -> None:
    """A WAV streamed to a pipe claims the largest size there is; what is there counts."""
    pcm = (tone(16_000) * 32767).astype("<i2").tobytes()

    assert decode(wav_header(16_000, 1, 0xFFFFFFFF) + pcm, MINUTE_SAMPLES).size == 16_000


def test_a_damaged_middle_does_not_lose_the_rest() -> None:
    data = bytearray(FILES["webm opus"])
    middle = len(data) // 2
    data[middle : middle + 40] = np.random.default_rng(3).bytes(40)

    assert decode(bytes(data), MINUTE_SAMPLES).size > 7_000
