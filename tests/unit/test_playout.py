"""Pacing, what was heard, and the two lanes of the outbox."""

import asyncio

import numpy as np
import pytest

from avatar.conversation.outbox import MAX_CONTROL, MAX_MEDIA, Outbox, OutboxOverflow
from avatar.conversation.playout import Playout
from avatar.core.audio import INPUT_RATE_HZ, silence
from avatar.core.events import ReplyAudioFrame, ReplyAudioStarted, SpeechStarted

RATE = 1000


def sound(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.ones(int(seconds * RATE), dtype=np.float32)


async def empty(outbox: Outbox) -> None:
    while True:
        await outbox.get()


async def test_audio_runs_ahead_by_the_lead_and_no_more() -> None:
    outbox = Outbox()
    playout = Playout(outbox, "t", RATE, lead_s=0.5)
    reading = asyncio.create_task(empty(outbox))
    began = asyncio.get_running_loop().time()
    await playout.send(sound(2))
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.5, abs=0.05)
    assert playout.played_samples() == pytest.approx(1500, abs=50)
    await playout.drain()
    assert playout.played_samples() == 2000
    reading.cancel()
    await asyncio.wait([reading])


async def test_a_gap_is_not_heard() -> None:
    playout = Playout(Outbox(), "t", RATE, lead_s=5)
    await playout.send(sound(0.4))
    await asyncio.sleep(2)
    await playout.send(sound(0.4))
    await asyncio.sleep(0.2)
    assert playout.played_samples() == pytest.approx(600, abs=2)


async def test_reports_decide_and_never_exceed_what_was_sent() -> None:
    playout = Playout(Outbox(), "t", RATE, lead_s=5)
    await playout.send(sound(1))
    playout.report(300)
    assert playout.played_samples() == 300
    await asyncio.sleep(10)
    assert playout.played_samples() == 800  # half a second of trust in a client that went silent
    playout.report(99_999)
    assert playout.played_samples() == 1000


async def test_a_reporting_client_is_waited_for_but_not_for_ever() -> None:
    outbox = Outbox()
    playout = Playout(outbox, "t", RATE, lead_s=5)
    reading = asyncio.create_task(empty(outbox))
    loop = asyncio.get_running_loop()
    await playout.send(sound(1))
    playout.report(0)
    began = loop.time()
    await playout.drain()
    assert loop.time() - began == pytest.approx(2.0)
    draining = asyncio.create_task(playout.drain())
    await asyncio.sleep(0)
    playout.report(1000)
    await draining
    assert loop.time() - began == pytest.approx(2.0)
    reading.cancel()
    await asyncio.wait([reading])


async def test_stopping_takes_back_what_was_not_sent() -> None:
    outbox = Outbox()
    playout = Playout(outbox, "t", RATE, lead_s=5)
    await playout.send(sound(1))
    heard = playout.stop()
    assert heard == 0
    assert playout.sent_samples == 0


async def test_control_overtakes_audio() -> None:
    outbox = Outbox()
    await outbox.put_media(ReplyAudioStarted("t", RATE))
    outbox.put(SpeechStarted(1))
    assert await outbox.get() == SpeechStarted(1)
    assert await outbox.get() == ReplyAudioStarted("t", RATE)


async def test_the_media_lane_waits_when_full_and_goes_on() -> None:
    outbox = Outbox()
    frame = ReplyAudioFrame("t", silence(1))
    for _ in range(MAX_MEDIA):
        await outbox.put_media(frame)
    putting = asyncio.create_task(outbox.put_media(frame))
    await asyncio.sleep(0.1)
    assert not putting.done()
    await outbox.get()
    await putting
    assert outbox.drop_media("t") == MAX_MEDIA


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    outbox = Outbox()
    for _ in range(MAX_CONTROL + 1):
        outbox.put(SpeechStarted(0))
    with pytest.raises(OutboxOverflow):
        await outbox.get()


async def test_what_is_held_is_not_heard_and_nothing_is_lost() -> None:
    outbox = Outbox()
    playout = Playout(outbox, "t", RATE, lead_s=0.5)
    reading = asyncio.create_task(empty(outbox))
    sending = asyncio.create_task(playout.send(sound(2)))
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(1)
    playout.hold()
    heard = playout.played_samples()
    sent = playout.sent_samples
    await asyncio.sleep(3)
    assert (playout.played_samples(), playout.sent_samples) == (heard, sent)
    playout.resume()
    await sending
    await playout.drain()
    assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.05)
    assert playout.played_samples() == 2000
    assert playout.underruns == 0
    reading.cancel()
    await asyncio.wait([reading])


async def test_a_client_that_is_told_to_hold_is_not_assumed_to_play_on() -> None:
    playout = Playout(Outbox(), "t", RATE, lead_s=5)
    await playout.send(sound(1))
    playout.report(300)
    await asyncio.sleep(0.1)
    playout.hold()
    await asyncio.sleep(2)
    assert playout.played_samples() == pytest.approx(400, abs=2)


@pytest.mark.parametrize("stopped", [False, True])
async def test_an_ended_reply_keeps_no_sound(stopped: bool) -> None:
    outbox = Outbox()
    playout = Playout(outbox, "t", INPUT_RATE_HZ, lead_s=5)
    reading = asyncio.create_task(empty(outbox))
    noise = np.random.default_rng(0).standard_normal(2 * INPUT_RATE_HZ).astype(np.float32)
    for second in (noise[:INPUT_RATE_HZ], noise[INPUT_RATE_HZ:]):
        await playout.send(second)
        assert playout.echo_reference().likeness(second) > 0.9
    if stopped:
        playout.stop()
    else:
        await playout.drain()
    assert playout.echo_reference().likeness(second) == 0
    reading.cancel()
    await asyncio.wait([reading])
