"""Which audio file begins like this: the accepted containers, told by their first bytes. Knows no parser."""

from typing import Literal

Parser = Literal["matroska", "mov", "sndfile"]

HEAD_BYTES = 12
"""As much of a file as `parser_for` looks at."""

NOT_TAKEN = "This is none of the audio files taken here: WebM, Ogg, WAV, FLAC, MP3, MP4."


def parser_for(head: bytes) -> Parser | None:
    """What reads a file that begins with `head`; None for all that is not taken."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if head[4:8] == b"ftyp":
        return "mov"
    if head.startswith((b"OggS", b"fLaC", b"ID3")) or (head.startswith(b"RIFF") and head[8:12] == b"WAVE"):
        return "sndfile"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:  # layer 0 would be AAC
        return "sndfile"
    return None
