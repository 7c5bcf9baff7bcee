"""Every kind of recording that can be made here: PyAV's muxers with the encoders that each of them takes, and what
libsndfile writes besides."""

import io

import numpy as np
import soundfile

from avatar.core.audio import Pcm
from tests.load.recorder import record

_RIFF = (
    "ac3 adpcm_ima_wav adpcm_ms adpcm_swf adpcm_yamaha dfpwm eac3 flac g722 g726 libmp3lame mp2 pcm_alaw pcm_f32le "
    "pcm_f64le pcm_mulaw pcm_s16le pcm_s24le pcm_s32le pcm_u8 wmav1 wmav2"
)
_PROGRAM = "ac3 libmp3lame mp2 pcm_dvd pcm_s16be"
_PCM = "pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be pcm_s32le"

MUXERS = {
    "3g2": "aac libopencore_amrnb",
    "3gp": "aac libopencore_amrnb",
    "ac3": "ac3",
    "adts": "aac",
    "adx": "adpcm_adx",
    "aiff": "adpcm_ima_qt adpcm_ima_ws pcm_alaw pcm_f32be pcm_f64be pcm_mulaw pcm_s16be pcm_s24be pcm_s32be pcm_s8",
    "alp": "adpcm_ima_alp",
    "amr": "libopencore_amrnb",
    "apm": "adpcm_ima_apm",
    "argo_asf": "adpcm_argo",
    "asf": f"aac vorbis {_RIFF}",
    "ast": "pcm_s16be_planar",
    "au": "g722 g726le pcm_alaw pcm_f32be pcm_f64be pcm_mulaw pcm_s16be pcm_s24be pcm_s32be pcm_s8",
    "avi": f"aac vorbis {_RIFF}",
    "caf": f"ac3 adpcm_ima_qt adpcm_ima_wav adpcm_ms alac flac libmp3lame mp2 pcm_alaw pcm_mulaw pcm_s8 {_PCM}",
    "dvd": _PROGRAM,
    "eac3": "eac3",
    "f4v": "aac libmp3lame",
    "flac": "flac",
    "flv": "aac ac3 adpcm_swf eac3 flac libmp3lame libopus nellymoser pcm_alaw pcm_mulaw",
    "gxf": "pcm_s16le",
    "ipod": "aac ac3 alac",
    "ircam": "pcm_alaw pcm_f32le pcm_f64le pcm_mulaw pcm_s16le pcm_s24le pcm_s32le pcm_s8",
    "ismv": f"aac alac libmp3lame mp2 vorbis {_PCM}",
    "kvag": "adpcm_ima_ssi",
    "latm": "aac",
    "matroska": "aac ac3 alac eac3 flac libmp3lame libopus mp2 pcm_f32le pcm_f64le pcm_s16be pcm_s16le pcm_s24be "
    "pcm_s24le pcm_s32be pcm_s32le pcm_u8 real_144 tta vorbis wavpack",
    "mmf": "adpcm_yamaha",
    "mov": f"aac ac3 adpcm_ima_qt alac eac3 libmp3lame mp2 nellymoser pcm_alaw pcm_mulaw pcm_s8 pcm_u8 {_PCM}",
    "mp2": "mp2",
    "mp3": "libmp3lame",
    "mp4": f"aac ac3 alac eac3 flac libmp3lame libopus mp2 vorbis {_PCM}",
    "mpeg": _PROGRAM,
    "mpegts": "aac ac3 eac3 libmp3lame libopus mp2",
    "nut": "aac ac3 adpcm_ms adpcm_swf adpcm_yamaha dfpwm eac3 flac g722 libmp3lame libopus mp2 pcm_alaw pcm_mulaw "
    "pcm_s16be_planar pcm_s16le_planar pcm_s24le_planar pcm_s32le_planar pcm_s8 pcm_s8_planar pcm_u16be pcm_u16le "
    f"pcm_u24be pcm_u24le pcm_u32be pcm_u32le pcm_u8 vorbis wavpack {_PCM}",
    "oga": "flac libopus vorbis",
    "ogg": "flac libopus vorbis",
    "ogv": "flac libopus vorbis",
    "opus": "libopus",
    "rm": "aac ac3 real_144",
    "roq": "roq_dpcm",
    "smjpeg": "pcm_s16le",
    "sox": "pcm_s32be pcm_s32le",
    "spdif": "ac3 eac3 libmp3lame mp2",
    "spx": "flac libopus vorbis",
    "svcd": _PROGRAM,
    "swf": "libmp3lame",
    "tta": "tta",
    "vcd": _PROGRAM,
    "vob": _PROGRAM,
    "voc": "pcm_alaw pcm_mulaw pcm_s16le",
    "w64": _RIFF,
    "wav": _RIFF,
    "webm": "libopus vorbis",
    "wtv": f"vorbis {_RIFF}",
    "wv": "wavpack",
}
SNDFILE = {
    "AIFF": "GSM610",
    "AU": "G721_32 G723_24 G723_40",
    "AVR": "PCM_16",
    "NIST": "PCM_16 PCM_24 ALAW",
    "PAF": "PCM_16",
    "PVF": "PCM_16 PCM_32",
    "RF64": "PCM_16 ALAW",
    "SDS": "PCM_16",
    "SVX": "PCM_S8 PCM_16",
    "VOC": "PCM_16",
    "WAV": "GSM610",
}
KINDS = [
    f"{container} {codec}" for container, codecs in (*MUXERS.items(), *SNDFILE.items()) for codec in codecs.split()
]

_RATES_HZ = {"libopencore_amrnb": 8_000, "real_144": 8_000, "adpcm_ima_alp": 22_050, "roq_dpcm": 22_050}
_RATES_HZ |= {"adpcm_swf": 44_100, "vorbis": 44_100, "wmav1": 44_100, "wmav2": 44_100}
_RATES_HZ |= {"voc pcm_alaw": 8_000, "flv pcm_alaw": 8_000, "flv pcm_mulaw": 8_000, "mmf adpcm_yamaha": 8_000}
_RATES_HZ |= {"flv nellymoser": 8_000, "flv libmp3lame": 44_100, "swf libmp3lame": 44_100}
_STEREO = ("adpcm_swf", "vorbis", "adpcm_argo")

SECONDS = 2.0


def sweep(rate_hz: int) -> Pcm:
    """A tone that climbs from 200 to 600 Hz, each of its moments like no other."""
    at_s = np.arange(int(SECONDS * rate_hz)) / rate_hz
    pcm: Pcm = (0.3 * np.sin(2 * np.pi * (200 + 100 * at_s) * at_s)).astype(np.float32)
    return pcm


def make(kind: str) -> bytes:
    """`sweep` as the recording `kind` of `KINDS`."""
    container, codec = kind.split()
    if container in SNDFILE:
        file = io.BytesIO()
        soundfile.write(file, sweep(8_000), 8_000, format=container, subtype=codec)
        return file.getvalue()
    rate_hz = _RATES_HZ.get(kind) or _RATES_HZ.get(codec, 48_000)
    layout = "stereo" if codec in _STEREO else "mono"
    return record(sweep(rate_hz), rate_hz, container, codec, coded_hz=rate_hz, layout=layout)
