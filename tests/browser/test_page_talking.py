"""Talking in the page against a scripted server: the microphone, the reply's sound, hands-free and by hand."""

import asyncio
import io

import av
import numpy as np
import pytest
from playwright.async_api import Page, expect

from tests.browser.microphone import HUM_HZ, tone
from tests.browser.scripted_server import Connection, ScriptedServer
from tests.browser.steps import reply, status, until

pytestmark = pytest.mark.browser

FRAME_BYTES = 640  # 20 ms of PCM16 at 16 kHz


async def played(page: Page, name: str = "playedMs") -> float:
    return float(await page.evaluate(f"document.documentElement.dataset.{name} ?? 0"))


async def until_played(page: Page, milliseconds: float) -> None:
    async def enough() -> bool:
        return await played(page) >= milliseconds

    await until(enough)


def rms(frames: list[bytes]) -> float:
    pcm = np.frombuffer(b"".join(frames), dtype="<i2").astype(np.float64) / 32768
    return float(np.sqrt(np.mean(pcm**2)))


def pitch_hz(frames: list[bytes]) -> float:
    """The frequency at which there is most."""
    pcm = np.frombuffer(b"".join(frames), dtype="<i2").astype(np.float64)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(np.fft.rfftfreq(pcm.size, 1 / 16_000)[int(spectrum.argmax())])


class TestHandsFree:
    async def test_session_starts_as_live_pcm16(self, page: Page, talk: Connection) -> None:
        assert talk.messages[0] == {
            "type": "session.start",
            "mode": "live",
            "audio": {"format": "pcm16", "sample_rate": 16000},
            "conversation_id": None,
            "resume_token": None,
            "voice_id": None,
            "quality": "fast",
        }
        await status(page, "Listening")

    async def test_microphone_comes_in_20_ms_frames_at_its_own_pace(self, page: Page, talk: Connection) -> None:
        await until(lambda: talk.frames)
        talk.frames.clear()
        await until(lambda: len(talk.frames) >= 100)
        assert pitch_hz(talk.frames[:100]) == pytest.approx(HUM_HZ, rel=0.02), "100 frames of 20 ms are 2 s of its hum"
        assert {len(frame) for frame in talk.frames} == {FRAME_BYTES}
        assert rms(talk.frames) > 0.005
        level = page.get_by_role("meter", name="Microphone level")
        await expect(level).not_to_have_attribute("aria-valuenow", "0")

    async def test_muted_microphone_sends_silence(self, page: Page, talk: Connection) -> None:
        await page.get_by_role("button", name="Mute microphone").click()
        await status(page, "Microphone off")
        await asyncio.sleep(0.5)
        talk.frames.clear()
        await until(lambda: len(talk.frames) >= 25)
        assert rms(talk.frames) == 0
        await page.get_by_role("button", name="Turn microphone on").click()
        await until(lambda: rms(talk.frames[-10:]) > 0)

    async def test_turn_is_shown_as_it_happens(self, page: Page, talk: Connection) -> None:
        said, answer = page.locator(".said"), page.locator(".reply")
        await talk.say("speech.started", at_ms=100)
        await status(page, "Hearing you")
        await talk.say("transcript", turn_id="t1", text="What is", is_final=False)
        await expect(said).to_contain_text("What is")
        await expect(said).to_have_attribute("data-final", "false")
        await talk.say("speech.stopped", at_ms=900)
        await talk.say("transcript", turn_id="t1", text="What is the capital of France?", is_final=True)
        await expect(said).to_contain_text("What is the capital of France?")
        await expect(said).to_have_attribute("data-final", "true")
        await status(page, "Thinking")
        await talk.say("reply.text", turn_id="t1", delta="The capital ", is_final=False)
        await talk.say("reply.text", turn_id="t1", delta="is Paris.", is_final=False)
        await expect(answer).to_contain_text("The capital is Paris.")
        await talk.say("reply.audio", turn_id="t1", sample_rate=22050)
        await status(page, "Speaking")
        await talk.sound(tone(0.5))
        await talk.say("reply.text", turn_id="t1", delta="", is_final=True, text="The capital is Paris.")
        await talk.done("t1", "completed", "The capital is Paris.", voice_to_voice_ms=612.4, stt_ms=96, llm_ttft_ms=183)
        await status(page, "Listening")
        await expect(page.locator(".latency")).to_have_text("612 ms")
        await expect(page.locator(".metrics small")).to_contain_text("transcript 96 · first word 183 ms")
        await expect(page.locator(".unheard")).to_have_count(0)

    async def test_latency_unfolds_into_where_the_time_went(self, page: Page, talk: Connection) -> None:
        trace = [
            {"name": "endpoint", "start_ms": 0, "end_ms": 250},
            {"name": "stt", "start_ms": 125, "end_ms": 250},
            {"name": "queue", "start_ms": 400.2, "end_ms": 500},
        ]
        await talk.say("transcript", turn_id="t1", text="Where to?", is_final=True)
        await talk.say("reply.text", turn_id="t1", delta="To Paris.", is_final=True, text="To Paris.")
        await talk.done("t1", "completed", "To Paris.", voice_to_voice_ms=500, endpoint_ms=250, stt_ms=125, trace=trace)
        stages = page.get_by_role("list", name="Where that time went").get_by_role("listitem")
        await expect(page.locator(".waterfall")).to_be_hidden()
        await page.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(stages).to_have_text(["end of turn250 ms", "transcript125 ms", "waiting to be sent100 ms"])
        boxes = [await bar.bounding_box() for bar in await page.locator(".lane i").all()]
        ends = [(box["x"], box["x"] + box["width"]) for box in boxes if box]
        begin, end = ends[0][0], ends[2][1]
        shares = [round((x - begin) / (end - begin), 2) for bar in ends for x in bar]
        assert shares == [0, 0.5, 0.25, 0.5, 0.8, 1]
        await page.get_by_role("button", name="中文").click()
        await expect(page.get_by_role("list", name="时间花在哪里")).to_contain_text("断句")
        await page.locator(".latency").click()
        await expect(page.locator(".waterfall")).to_be_hidden()

    @pytest.mark.usefixtures("talk")
    async def test_engines_are_named(self, page: Page) -> None:
        await expect(page.locator(".engines")).to_contain_text("hearing moonshine")
        await expect(page.get_by_title("moonshine (moonshine-tiny-en)")).to_be_visible()


class TestSound:
    async def test_reply_is_played_once_and_reported_as_it_goes(self, page: Page, talk: Connection) -> None:
        await reply(talk, "t1", "Paris.", 1.5)
        await talk.done("t1", "completed", "Paris.")
        await until(lambda: talk.of("playback") and talk.of("playback")[-1]["played_ms"] >= 1499)
        reports = [message["played_ms"] for message in talk.of("playback")]
        assert {message["turn_id"] for message in talk.of("playback")} == {"t1"}
        assert reports == sorted(reports)
        assert 5 <= len(reports) <= 12, "about five a second"
        assert reports[-1] <= 1501
        assert 0.2 < await played(page, "playedPeak") < 0.3
        assert await played(page, "underruns") == 0
        await asyncio.sleep(0.6)
        assert len(talk.of("playback")) == len(reports), "nothing is reported of a reply that is over"

    async def test_stream_that_runs_dry_goes_on_and_is_counted(self, page: Page, talk: Connection) -> None:
        await reply(talk, "t1", "Paris.", 0.3)
        await asyncio.sleep(1)
        await talk.sound(tone(0.3))
        await talk.done("t1", "completed", "Paris.")
        await until(lambda: talk.of("playback") and talk.of("playback")[-1]["played_ms"] >= 599)
        assert await played(page, "underruns") == 1

    async def test_stop_silences_at_once_and_drops_what_still_comes(self, page: Page, talk: Connection) -> None:
        await reply(talk, "t1", "A long story. It goes on.", 10)
        await until_played(page, 500)
        await page.get_by_role("button", name="Stop").click()
        await talk.expect("interrupt")
        assert talk.of("playback")[-1]["played_ms"] > 300, "the server learns how far it got before it hears interrupt"
        kinds = [message["type"] for message in talk.messages]
        assert kinds[kinds.index("interrupt") - 1] == "playback"
        await talk.sound(tone(2))
        await asyncio.sleep(0.3)
        stopped_at = await played(page)
        await asyncio.sleep(0.5)
        assert await played(page) == stopped_at < 5000
        await talk.done("t1", "interrupted", "A long story.")
        await expect(page.locator(".heard")).to_have_text("A long story.")
        await expect(page.locator(".unheard")).to_contain_text("It goes on.")
        await expect(page.get_by_text("Interrupted")).to_be_visible()

    async def test_barge_in_found_by_the_server_silences_at_once(self, page: Page, talk: Connection) -> None:
        await reply(talk, "t1", "A long story.", 10)
        await until_played(page, 300)
        await talk.say("speech.started", at_ms=5000)
        await talk.done("t1", "interrupted", "A")
        await status(page, "Hearing you")
        stopped_at = await played(page)
        await asyncio.sleep(0.5)
        assert await played(page) - stopped_at <= 100
        await reply(talk, "t2", "Yes?", 0.4)
        await talk.done("t2", "completed", "Yes?")
        await until(lambda: talk.of("playback")[-1]["turn_id"] == "t2" and talk.of("playback")[-1]["played_ms"] >= 399)

    async def test_escape_interrupts_while_it_thinks(self, page: Page, talk: Connection) -> None:
        await talk.say("transcript", turn_id="t1", text="Hm", is_final=True)
        await status(page, "Thinking")
        await page.keyboard.press("Escape")
        await talk.expect("interrupt")

    async def test_replay_sounds_again_and_tells_the_server_nothing(self, page: Page, talk: Connection) -> None:
        await reply(talk, "t1", "Paris.", 0.6)
        await talk.done("t1", "completed", "Paris.")
        await until(lambda: talk.of("playback") and talk.of("playback")[-1]["played_ms"] >= 599)
        await status(page, "Listening")
        reports = len(talk.of("playback"))
        await page.evaluate("document.documentElement.dataset.playedMs = '0'")
        await page.get_by_role("button", name="Play again").click()
        await expect(page.get_by_role("button", name="Stop playing")).to_be_visible()
        await expect(page.get_by_role("button", name="Play again")).to_be_visible()
        assert await played(page) == 600
        assert len(talk.of("playback")) == reports


class TestPushToTalk:
    @staticmethod
    async def start(page: Page, server: ScriptedServer) -> Connection:
        await page.get_by_role("radio", name="Hold to talk").check()
        await page.get_by_role("button", name="Start talking").click()
        talk = await server.session()
        await expect(page.get_by_role("button", name="Hold to talk")).to_be_enabled()
        return talk

    async def test_held_button_records_webm_up_to_audio_end(self, page: Page, server: ScriptedServer) -> None:
        talk = await self.start(page, server)
        assert talk.messages[0]["mode"] == "push_to_talk"
        assert talk.messages[0]["audio"] == {"format": "webm"}
        await page.get_by_role("button", name="Hold to talk").hover()
        await page.mouse.down()
        await status(page, "Hearing you")
        await asyncio.sleep(1.5)
        assert len(talk.frames) >= 8, "pieces are sent while the button is held"
        await page.mouse.up()
        await talk.expect("audio.end")
        pieces = len(talk.frames)
        await status(page, "Thinking")
        container = av.open(io.BytesIO(b"".join(talk.frames)), "r")
        assert container.format.name == "matroska,webm"
        assert container.streams.audio[0].codec_context.name == "opus"
        pcm = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
        assert 1.2 < len(pcm) / 48_000 / container.streams.audio[0].codec_context.channels < 2.2
        assert float(np.abs(pcm).max()) > 0.01
        await asyncio.sleep(0.3)
        assert len(talk.frames) == pieces, "audio.end comes after the last piece"

    async def test_space_bar_talks_and_interrupts(self, page: Page, server: ScriptedServer) -> None:
        talk = await self.start(page, server)
        await reply(talk, "t1", "A long story.", 10)
        await status(page, "Speaking")
        await page.keyboard.down("Space")
        await talk.expect("interrupt")
        await status(page, "Hearing you")
        await asyncio.sleep(0.8)
        await page.keyboard.up("Space")
        await talk.expect("audio.end")
        assert b"".join(talk.frames).startswith(b"\x1a\x45\xdf\xa3"), "EBML magic"

    async def test_space_bar_types_in_the_text_field(self, page: Page, server: ScriptedServer) -> None:
        talk = await self.start(page, server)
        await page.get_by_role("textbox").press_sequentially("a b")
        await expect(page.get_by_role("textbox")).to_have_value("a b")
        assert talk.frames == []

    async def test_slip_of_the_finger_is_no_turn(self, page: Page, server: ScriptedServer) -> None:
        talk = await self.start(page, server)
        await page.get_by_role("button", name="Hold to talk").click(delay=60)
        await talk.expect("audio.clear")
        await expect(page.get_by_role("alert")).to_contain_text("Keep the button down")
        assert talk.of("audio.end") == []

    async def test_change_of_mode_goes_on_with_the_conversation(self, page: Page, server: ScriptedServer) -> None:
        talk = await self.start(page, server)
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await talk.done("t1", "completed")
        await page.get_by_role("radio", name="Hands-free").check()
        live = await server.session()
        start = live.messages[0]
        assert (start["mode"], start["audio"]["format"], start["resume_token"]) == ("live", "pcm16", "r1")
        await until(lambda: rms(live.frames[-10:] or [bytes(FRAME_BYTES)]) > 0)
        await expect(page.get_by_text("Hello")).to_be_visible()


class TestTyping:
    async def test_typed_turn_needs_no_microphone(self, page: Page, server: ScriptedServer) -> None:
        await page.get_by_role("textbox").fill("What is the capital of France?")
        await page.keyboard.press("Enter")
        talk = await server.session()
        assert (await talk.expect("text"))["text"] == "What is the capital of France?"
        await expect(page.locator(".said")).to_contain_text("What is the capital of France?")
        await reply(talk, "t1", "Paris.", 0.3)
        await talk.done("t1", "completed", "Paris.")
        await expect(page.locator(".turn")).to_have_count(1)
        await expect(page.locator(".reply")).to_contain_text("Paris.")
        await status(page, "Microphone off")
        assert talk.frames == []

    async def test_typed_turn_survives_a_lost_connection(self, page: Page, server: ScriptedServer) -> None:
        await page.get_by_role("textbox").fill("Hello")
        await page.keyboard.press("Enter")
        first = await server.session()
        await first.expect("text")
        await first.close()
        second = await server.session()
        assert (await second.expect("text"))["text"] == "Hello"
