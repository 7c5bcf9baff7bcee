"""Conversations as people have them, from a script, in virtual time: whose words make which turn, and what becomes of
the reply.

The fakes really listen: each word is a tone of its own loudness, so a word whose sound is lost is missing from the
transcript, and end-of-turn detection goes by the last word it heard.
"""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from avatar.core.audio import Pcm, float_to_pcm16, ms_to_samples, silence
from avatar.core.events import ReplyAudioFrame, ReplyDone, ReplyHeld
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.unit.conversation import Client, Fakes, talking, tone
from tests.virtual_clock import VirtualClockLoop

WORD_MS, GAP_MS = 280, 40
QUIETEST, STEP = 0.1, 0.004
REPLY = "Here is quite a long answer. It goes on for a while. It says this, and it says that. Now it is over."


@dataclass(frozen=True)
class Talk:
    """`script`: words, a number of seconds of silence, `|` for as long as the reply takes to be heard, and `~` for a
    sound of 40 ms. A word that ends in `.` sounds final, and so, wrongly, does one that ends in `!`.

    `turns`: what each turn that was answered said, and how its reply ended."""

    name: str
    script: str
    turns: tuple[tuple[str, str], ...]
    holds: int = 0


TALKS = [
    Talk("a plain question", "what time is it. 8", (("what time is it.", "completed"),)),
    Talk("one word", "yes. 8", (("yes.", "completed"),)),
    Talk("好", "好。 8", (("好。", "completed"),)),
    Talk("hesitation", "I would like to 0.7 fly to Rome. 8", (("I would like to fly to Rome.", "completed"),)),
    Talk(
        "uh, I mean",
        "call Anna uh 0.5 I mean 0.4 call Peter. 8",
        (("call Anna uh I mean call Peter.", "completed"),),
    ),
    Talk(
        "a number spelled slowly, and a detector that takes every digit for the end",
        "my number is five! 0.5 five! 0.5 one! 0.6 two! 0.5 seven! 0.5 three. 8",
        (("my number is five! five! one! two! seven! three.", "completed"),),
    ),
    Talk("false start", "what 0.4 what is the time. 8", (("what what is the time.", "completed"),)),
    Talk("a click before it", "~ 0.6 what time is it. 8", (("what time is it.", "completed"),)),
    Talk(
        "taken too early, and gone on before a word was heard: still one turn",
        "tell me about Rome! 0.26 and Milan. 8",
        (("tell me about Rome! and Milan.", "completed"),),
        holds=1,
    ),
    Talk(
        "a long monologue",
        "well " + " 0.5 ".join(f"so it went on {number} and on" for number in "ABCDEFGH") + " 0.4 done. 8",
        (("well " + " ".join(f"so it went on {number} and on" for number in "ABCDEFGH") + " done.", "completed"),),
    ),
    Talk(
        "interruption",
        "tell me a story. | stop that please. 8",
        (("tell me a story.", "interrupted"), ("stop that please.", "completed")),
        holds=1,
    ),
    Talk("backchannel", "tell me a story. | mm-hm 8", (("tell me a story.", "completed"),), holds=1),
    Talk("two backchannels", "tell me a story. | okay 1 yeah 8", (("tell me a story.", "completed"),), holds=2),
    Talk("a cough over the reply", "tell me a story. | ~ 8", (("tell me a story.", "completed"),)),
    Talk(
        "a backchannel that becomes a sentence",
        "tell me a story. | okay but wait a moment. 8",
        (("tell me a story.", "interrupted"), ("okay but wait a moment.", "completed")),
        holds=1,
    ),
    Talk("中文犹豫", "我想 0.6 订 一张 票。 8", (("我想 订 一张 票。", "completed"),)),
    Talk("中文附和", "讲 个 故事。 | 嗯嗯 8", (("讲 个 故事。", "completed"),), holds=1),
    Talk(
        "中文打断",
        "讲 个 故事。 | 不对 别说了。 8",
        (("讲 个 故事。", "interrupted"), ("不对 别说了。", "completed")),
        holds=1,
    ),
    Talk(
        "three turns",
        "what time is it. 8 and now. 8 thanks. 8",
        (("what time is it.", "completed"), ("and now.", "completed"), ("thanks.", "completed")),
    ),
]


class Language:
    """The words of one script, each with its loudness."""

    def __init__(self, script: str) -> None:
        self._words = sorted({word for word in script.split() if not _is_mark(word)})

    def sound(self, word: str) -> Pcm:
        return tone(QUIETEST + STEP * self._words.index(word), WORD_MS)

    def words(self, pcm: Pcm) -> list[str]:
        """What `sound` was made of."""
        gap = np.flatnonzero(np.abs(np.diff(np.concatenate([[0], np.abs(pcm), [0]]))) > STEP / 2)
        pieces = [pcm[start:end] for start, end in pairwise(gap) if end - start > 160]
        loudness = [float(np.median(np.abs(piece))) for piece in pieces]
        return [self._words[round((level - QUIETEST) / STEP)] for level in loudness if level > QUIETEST - STEP]


def _is_mark(word: str) -> bool:
    return word in ("|", "~") or word.replace(".", "", 1).isdigit()


async def perform(talk: Talk, chunk_ms: int) -> Client:
    language = Language(talk.script)
    fakes = Fakes()
    fakes.llm.replies = REPLY
    fakes.stt.text = lambda pcm: " ".join(language.words(pcm))
    fakes.end_of_turn = FakeEndOfTurn(lambda pcm: 0.9 if " ".join(language.words(pcm))[-1:] in ".!。" else 0.1, 0.03)
    async with talking(fakes) as client:
        for word in talk.script.split():
            if word == "|":
                await say(client, silence(ms_to_samples(2500, 16_000)), chunk_ms)
            elif word == "~":
                await say(client, tone(0.09, 40), chunk_ms)
            elif _is_mark(word):
                await say(client, silence(ms_to_samples(1000 * float(word), 16_000)), chunk_ms)
            else:
                sound = np.concatenate([language.sound(word), silence(ms_to_samples(GAP_MS, 16_000))])
                await say(client, sound, chunk_ms)
    return client


async def say(client: Client, pcm: Pcm, chunk_ms: int) -> None:
    size = ms_to_samples(chunk_ms, 16_000)
    for start in range(0, pcm.size, size):
        chunk = pcm[start : start + size]
        client.session.audio(float_to_pcm16(chunk))
        await asyncio.sleep(chunk.size / 16_000)


@pytest.mark.parametrize("chunk_ms", [10, 20, 100])
@pytest.mark.parametrize("talk", TALKS, ids=lambda talk: talk.name)
def test_a_talk_goes_as_people_expect(talk: Talk, chunk_ms: int) -> None:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        client = runner.run(perform(talk, chunk_ms))
    answered = [done for done in client.done if done.heard_text or done.status != "interrupted"]
    said = {record.id: record.user_text for record in client.store.saved}
    assert tuple((said[done.turn_id], done.status) for done in answered) == talk.turns
    kept = tuple((record.user_text, record.status) for record in client.store.saved if not record.superseded)
    assert kept == talk.turns, "whoever goes on with it is told each thing once"
    assert len(client.of(ReplyHeld)) == talk.holds
    check_nothing_is_stale(client)
    if all(status == "completed" for _, status in talk.turns):
        assert [done.heard_text for done in answered] == [REPLY] * len(answered)


def check_nothing_is_stale(client: Client) -> None:
    """No sample of a reply after its end, or while it is held; every turn ends once."""
    ended: set[str] = set()
    for _, event in client.events:
        if isinstance(event, ReplyDone):
            assert event.turn_id not in ended
            ended.add(event.turn_id)
        if isinstance(event, ReplyAudioFrame):
            assert event.turn_id not in ended
