"""What `decoder.py` and its child processes say to each other over the child's stdin and stdout.

    job     rate of the result in Hz u32, samples it may hold u32, encoded bytes u32, CPU seconds u32;
            the encoded bytes
    answer  kind u8, bytes u32; the bytes: float32 PCM for `PCM`, else UTF-8 text for people

Numbers are little-endian. The first answer comes before any job, and is an empty `PCM`: warm and ready.
"""

import struct

JOB = struct.Struct("<IIII")
ANSWER = struct.Struct("<BI")
PCM, BAD_AUDIO, TOO_LONG = range(3)

MAX_TEXT_BYTES = 1000
"""Longest text of an answer."""
