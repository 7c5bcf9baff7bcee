"""A push-to-talk recording on its way to text: what is heavy in it leaves the event loop free."""

import threading

import numpy as np
import pytest

from avatar.conversation import push_to_talk
from avatar.conversation.push_to_talk import Recording
from avatar.core import audio
from avatar.core.audio import Pcm, float_to_pcm16
from avatar.core.errors import BadAudio
from tests.fakes.stt import FakeSpeechToText
from tests.fakes.vad import FakeVoiceActivity
from tests.unit.conversation import BytesDecoder, tone


def raw(data: bytes, rate_hz: int) -> Recording:
    return Recording(
        data, "pcm16", rate_hz, 60, BytesDecoder(), FakeVoiceActivity(), FakeSpeechToText("words"), None, 96, 5
    )


async def test_a_minute_at_studio_rate_is_resampled_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def resample(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
        threads.append(threading.get_ident())
        return real(pcm, from_hz, to_hz)

    real = audio.resample
    monkeypatch.setattr(push_to_talk, "resample", resample)
    said = await raw(float_to_pcm16(np.tile(tone(0.3, 1000), 3)), 48_000).listen()
    assert said.text == "words"
    assert said.pcm is not None
    assert said.pcm.size == 16_000
    assert threads
    assert threading.get_ident() not in threads


async def test_half_a_sample_is_bad_audio() -> None:
    with pytest.raises(BadAudio):
        await raw(bytes(32_001), 16_000).listen()
