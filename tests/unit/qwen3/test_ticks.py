"""What the tick loop promises: an utterance is itself in any company, for any text timing, in any slot."""

import copy
import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch

from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.config import Draw, Sampling
from avatar.engines.tts.qwen3.speech import Request
from avatar.engines.tts.qwen3.ticks import Limits
from avatar.engines.tts.qwen3.voices import clone, from_bytes, to_bytes
from tests.unit.qwen3.models import checkpoint
from tests.unit.qwen3.ticking import SMALL, Stage, played_s

TEXT = "Hello there, my friend. It costs 12 dollars, 今天 too."
SHORT = Sampling(max_frames=24)
SERENA = Request("serena", "english", sampling=SHORT, seed=7, end="never", paced=False)


def recording(seconds: float = 0.6, seed: int = 3) -> torch.Tensor:
    return 0.1 * torch.randn(int(seconds * 24_000), generator=torch.Generator().manual_seed(seed))


# --- text and time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_text_in_pieces_is_text_at_once(seed: int) -> None:
    request = dataclasses.replace(SERENA, seed=seed, sampling=Sampling(max_frames=70))
    whole = Stage().say(request, [TEXT])
    pieces, rest, chance = [], TEXT, random.Random(seed)
    while rest:
        cut = 1 if seed == 0 else chance.randint(1, 9)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    streamed = Stage().say(request, pieces)
    assert len(whole.codes) == 70
    np.testing.assert_array_equal(streamed.codes, whole.codes)
    np.testing.assert_allclose(streamed.pcm, whole.pcm, atol=5e-6)
    assert streamed.hungry >= len(pieces) // 2 - 3


def test_who_waits_for_text_stands_still_and_is_not_padded() -> None:
    stage = Stage()
    speech, listener = stage.open(SERENA)
    stage.ticks.push(speech, "Hello you")
    stage.run(lambda: speech.hungry)
    made = speech.frames
    assert listener.hungry == 1
    assert stage.tick() is None
    assert speech.frames == made == sum(packet.frames for packet in listener.packets)
    stage.ticks.push(speech, " and me, my dear")
    stage.run(lambda: speech.hungry)
    assert speech.frames > made


def test_a_neighbour_that_waits_delays_nobody() -> None:
    stage = Stage()
    waits, _ = stage.open(SERENA)
    stage.ticks.push(waits, "Hello you")
    stage.run(lambda: waits.hungry)
    np.testing.assert_array_equal(stage.say(SERENA, [TEXT]).codes, Stage().say(SERENA, [TEXT]).codes)
    assert not waits.over


def test_speech_does_not_end_before_its_text_unless_it_may() -> None:
    model = one_that_likes_to_end()
    tokens = len(model.prompter.text_ids(TEXT))
    asked = dataclasses.replace(SERENA, sampling=Sampling(max_frames=100))
    lengths = {
        end: len(Stage(model=model).say(dataclasses.replace(asked, end=end), [TEXT]).codes)
        for end in ("after text", "any time", "never")
    }
    assert tokens <= lengths["after text"] < 100
    assert lengths["any time"] < tokens
    assert lengths["never"] == 100


def one_that_likes_to_end() -> Checkpoint:
    model = checkpoint("custom")
    talker = copy.copy(model.talker)
    talker.head = talker.head.clone()
    talker.head[model.config.codec_ids.eos] *= 4
    return dataclasses.replace(model, talker=talker)


@pytest.mark.parametrize("nothing", ["", " ", "\n\n", " \t "])
def test_empty_text_is_refused(nothing: str) -> None:
    stage = Stage()
    speech, listener = stage.open(SERENA)
    stage.ticks.push(speech, nothing)
    stage.ticks.close(speech)
    assert listener.finished is not None
    assert "no text" in str(listener.finished.error)
    assert stage.ticks.waiting == stage.ticks.active == 0


# --- company ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_a_session_is_itself_among_31_that_join_leave_and_cancel(seed: int) -> None:
    limits = Limits(slots=32, max_positions=128, buckets=(32,), contexts=())
    request = dataclasses.replace(SERENA, sampling=Sampling(max_frames=40), seed=99)
    alone = Stage(limits).say(request, [TEXT])
    stage, chance = Stage(limits), random.Random(seed)
    others = [join(stage, chance) for _ in range(20)]
    speech, listener = stage.open(request)
    stage.ticks.push(speech, TEXT)
    stage.ticks.close(speech)
    joined = cancelled = 0
    while listener.finished is None:
        stage.tick()
        if chance.random() < 0.4 and len(others) < 31:
            others.append(join(stage, chance))
            joined += 1
        if chance.random() < 0.3:
            stage.ticks.cancel(others.pop(chance.randrange(len(others))))
            cancelled += 1
        others = [other for other in others if not other.over]
    assert joined > 5
    assert cancelled > 5
    np.testing.assert_array_equal(listener.codes, alone.codes)
    np.testing.assert_allclose(listener.pcm, alone.pcm, atol=5e-6)


def join(stage: Stage, chance: random.Random) -> Any:
    sampling = Sampling(
        talker=Draw(temperature=chance.uniform(0.5, 2), top_k=chance.randint(1, 64)),
        repetition_penalty=chance.uniform(1, 1.5),
        max_frames=chance.randint(2, 60),
    )
    voice, language = chance.choice(["serena", "eric", None]), chance.choice(["auto", "chinese", "russian"])
    mode = chance.choice(["streaming", "whole"])
    speech, _ = stage.open(Request(voice, language, None, mode, sampling, chance.randrange(1000), paced=False))  # type: ignore[arg-type]
    stage.ticks.push(speech, TEXT[: chance.randint(1, len(TEXT))])
    if chance.random() < 0.8:
        stage.ticks.close(speech)
    return speech


def test_nothing_leaks_into_a_slot_that_is_used_again() -> None:
    limits = dataclasses.replace(SMALL, slots=1)
    fresh = Stage(limits).say(SERENA, [TEXT])
    stage = Stage(limits)
    stage.say(dataclasses.replace(SERENA, voice="eric", seed=1, mode="whole"), ["Something else altogether."])
    cut, _ = stage.open(SERENA)
    stage.ticks.push(cut, "Not to be finished, ever")
    for _ in range(5):
        stage.tick()
    stage.ticks.cancel(cut)
    again = stage.say(SERENA, [TEXT])
    np.testing.assert_array_equal(again.codes, fresh.codes)
    np.testing.assert_array_equal(again.pcm, fresh.pcm)


def test_a_cancelled_session_frees_its_slot_before_the_next_tick_and_says_no_more() -> None:
    stage = Stage(dataclasses.replace(SMALL, slots=1))
    first, heard = stage.open(SERENA)
    stage.ticks.push(first, TEXT)
    stage.tick()
    second, answer = stage.open(SERENA)
    stage.ticks.push(second, TEXT)
    stage.tick()
    assert (stage.ticks.active, stage.ticks.waiting) == (1, 1)
    packets = len(heard.packets)
    stage.ticks.cancel(first)
    stage.ticks.cancel(first)
    stage.tick()
    assert (stage.ticks.active, stage.ticks.waiting) == (1, 0)
    assert len(answer.packets) == 1
    assert len(heard.packets) == packets
    assert heard.finished is not None
    assert heard.finished.reason == "cancelled"


def test_results_looked_at_a_tick_later_are_the_same() -> None:
    """As on a GPU: a frame is launched before it is known that the one before it was the last."""
    model = one_that_likes_to_end()
    request = dataclasses.replace(SERENA, end="after text", sampling=Sampling(max_frames=100))
    expected = Stage(model=model).say(request, [TEXT])
    stage = Stage(dataclasses.replace(SMALL, slots=1), model=model, asynchronous=True)
    for pieces in ([TEXT], [TEXT[:9], TEXT[9:20], TEXT[20:]]):
        heard = stage.say(request, pieces)
        np.testing.assert_array_equal(heard.codes, expected.codes)
        np.testing.assert_allclose(heard.pcm, expected.pcm, atol=5e-6)
    limited = stage.say(SERENA, [TEXT])
    assert len(limited.codes) == 24
    counts = stage.ticks.statistics()
    assert (counts["free"], counts["active"]) == (1, 0)
    assert counts["frames"] <= 2 * len(expected.codes) + 24 + 2  # one for nothing at each unforeseen end


# --- pace ------------------------------------------------------------------------------------------------------------


def test_a_paced_session_stays_a_little_ahead_of_its_listener() -> None:
    stage = Stage(tick_s=0.004)
    speech, listener = stage.open(dataclasses.replace(SERENA, paced=True, sampling=Sampling(max_frames=80)))
    stage.ticks.push(speech, TEXT)
    stage.ticks.close(speech)
    leads = []

    def look() -> bool:
        if speech.first_packet_s is not None:
            leads.append(played_s(listener) - (stage.now_s - speech.first_packet_s))
        return listener.finished is not None

    stage.run(look)
    assert max(leads) < 1.5 + 0.1
    assert stage.ticks.statistics()["late_packets"] == 0
    assert [packet.frames for packet in listener.packets][:2] == [1, 1]
    assert 8 in [packet.frames for packet in listener.packets]


def test_an_unpaced_session_waits_for_its_caller() -> None:
    stage = Stage()
    speech, listener = stage.open(dataclasses.replace(SERENA, sampling=Sampling(max_frames=80)), takes=False)
    stage.ticks.push(speech, TEXT)
    stage.ticks.close(speech)
    while stage.tick() is not None:
        pass
    assert [packet.frames for packet in listener.packets] == [1, 1, 2, 4, 8]
    assert 1.5 < played_s(listener) + 8 * 0.08 < 3
    speech.taken = speech.delivered
    assert stage.tick() is not None


# --- limits ----------------------------------------------------------------------------------------------------------


def test_an_utterance_ends_at_its_limit_or_when_its_slot_is_full() -> None:
    listener = Stage().say(SERENA, ["Hello."])
    assert listener.finished is not None
    assert (len(listener.codes), listener.finished.reason) == (24, "limit")
    stage = Stage(dataclasses.replace(SMALL, max_positions=40))
    speech, listener = stage.open(dataclasses.replace(SERENA, sampling=None))
    stage.ticks.push(speech, TEXT)
    stage.ticks.close(speech)
    stage.run(lambda: listener.finished is not None)
    assert len(listener.codes) == 40 - 10 + 1


def test_a_prompt_that_fills_its_slot_is_refused() -> None:
    listener = Stage().say(dataclasses.replace(SERENA, mode="whole"), ["Hello there. " * 30])
    assert listener.finished is not None
    assert "positions" in str(listener.finished.error)


def test_an_unknown_voice_or_language_is_refused() -> None:
    for request in (Request("nobody"), Request("serena", "klingon")):
        with pytest.raises(ValueError, match="This model has no"):
            Stage().open(request)


# --- cloned voices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
def test_a_cloned_voice_reads_on_where_its_recording_ends(kept: bool) -> None:
    """The audio is that of the codes behind the reference's, not of the codes alone."""
    model = checkpoint("base")
    voice = clone(model, recording(), "hello there")
    voice = from_bytes(model, to_bytes(voice)) if kept else voice
    stage = Stage(dataclasses.replace(SMALL, max_positions=200), "base")
    listener = stage.say(dataclasses.replace(SERENA, voice=voice), [TEXT])
    assert voice.voice.reference is not None
    codes = torch.cat([voice.voice.reference.codes, torch.from_numpy(listener.codes)])
    whole = model.decoder(codes.T[None])[0].numpy()[-len(listener.pcm) :]
    np.testing.assert_allclose(listener.pcm, whole, atol=5e-6)
