"""Which audio file begins like this: the accepted containers, told by their first bytes. Knows no parser."""

from typing import Literal

Parser = Literal["matroska", "mov", "aac", "amr", "asf", "sndfile"]
"""libsndfile, or the name of one of FFmpeg's demuxers."""

HEAD_BYTES = 12
"""As much of a file as `parser_for` looks at."""

NOT_TAKEN = (
    "This is none of the audio files taken here: WebM and Matroska, Ogg, WAV, FLAC, MP3, MP4 and QuickTime, AAC, AMR, "
    "WMA, AIFF, CAF, AU."
)


_IFF = {(b"RIFF", b"WAVE"), (b"RF64", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC")}


def parser_for(head: bytes) -> Parser | None:
    """What reads a file that begins with `head`; None for all that is not taken."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith(b"#!AMR"):
        return "amr"
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "asf"
    if head.startswith((b"OggS", b"fLaC", b"ID3", b"caff", b".snd", b"riff\x2e\x91\xcf\x11")):
        return "sndfile"
    if (head[:4], head[8:12]) in _IFF:
        return "sndfile"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "sndfile" if head[1] & 0x06 else "aac"  # MPEG audio of layer 0 is AAC
    return None
