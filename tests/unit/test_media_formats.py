"""What PyAV can write is taken, and is afterwards what it was."""

import av
import numpy as np
import pytest

from avatar.media.decoder_child import decode
from avatar.media.formats import DECODERS, DEMUXERS
from tests.recordings import KINDS, SECONDS, make, sweep

RATE_HZ = 16_000

OPENS_MORE = "concat dash hls image2 image2pipe imf lavfi mlv mpjpeg rtp rtsp sap sbg sdp vobsub webm_dash_manifest"
"""Demuxers that open files or addresses which the file names, or that make sound out of a text."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_is_decoded_to_what_was_recorded(kind: str) -> None:
    wanted = sweep(RATE_HZ)

    pcm = decode(make(kind), 60 * RATE_HZ)

    assert pcm.size == pytest.approx(SECONDS * RATE_HZ, abs=0.15 * RATE_HZ)  # codecs pad, players of discs fill up
    size = pcm.size + wanted.size  # no codec's delay matters
    products = np.fft.irfft(np.fft.rfft(pcm, size) * np.conj(np.fft.rfft(wanted, size)))
    assert products.max() / np.linalg.norm(pcm) / np.linalg.norm(wanted) > 0.9


def test_what_may_run_is_there_and_opens_nothing_else() -> None:
    installed = {one for name in av.formats_available for one in name.split(",")}

    assert installed >= DEMUXERS
    assert av.codecs_available >= DECODERS
    assert not DEMUXERS & set(OPENS_MORE.split())
