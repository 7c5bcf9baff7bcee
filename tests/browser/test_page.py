"""The page against a scripted server: what it shows, what it sends, and what it does with sound."""

import asyncio
import inspect
import io
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from playwright.async_api import Browser, Page, expect

from avatar.core.errors import AvatarError
from tests.browser.microphone import tone
from tests.browser.scripted_server import WAIT_S, Connection, ScriptedServer

pytestmark = pytest.mark.browser

FRAME_BYTES = 640  # 20 ms of PCM16 at 16 kHz


async def until(condition: Callable[[], Any], *, within_s: float = WAIT_S) -> None:
    """Waits for something that only the other process can make true; `condition` may be asynchronous."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(0.02)


async def played(page: Page, name: str = "playedMs") -> float:
    return float(await page.evaluate(f"document.documentElement.dataset.{name} ?? 0"))


async def until_played(page: Page, milliseconds: float) -> None:
    async def enough() -> bool:
        return await played(page) >= milliseconds

    await until(enough)


async def status(page: Page, words: str) -> None:
    await expect(page.get_by_role("status")).to_have_text(words)


async def reply(connection: Connection, turn: str, text: str, seconds: float) -> None:
    """A reply up to its sound; it is not done yet."""
    await connection.say("reply.text", turn_id=turn, delta=text, is_final=False)
    await connection.say("reply.audio", turn_id=turn, sample_rate=22050)
    await connection.sound(tone(seconds))


async def below(page: Page, *, at_least_px: float = 0, at_most_px: float = 1e9) -> bool:
    """Whether that much of the conversation lies below what is in sight."""
    rest = "(box => box.scrollHeight - box.scrollTop - box.clientHeight)(document.querySelector('main'))"
    return at_least_px <= float(await page.evaluate(rest)) <= at_most_px


def rms(frames: list[bytes]) -> float:
    pcm = np.frombuffer(b"".join(frames), dtype="<i2").astype(np.float64) / 32768
    return float(np.sqrt(np.mean(pcm**2)))


class TestHandsFree:
    async def test_session_starts_as_live_pcm16(self, page: Page, talk: Connection) -> None:
        assert talk.messages[0] == {
            "type": "session.start",
            "mode": "live",
            "audio": {"format": "pcm16", "sample_rate": 16000},
            "conversation_id": None,
            "voice_id": None,
            "quality": "fast",
        }
        await status(page, "Listening")

    async def test_microphone_comes_in_20_ms_frames_in_real_time(self, page: Page, talk: Connection) -> None:
        await until(lambda: talk.frames)
        talk.frames.clear()
        began = time.monotonic()
        await until(lambda: len(talk.frames) >= 100)
        assert 1.6 < time.monotonic() - began < 2.6, "100 frames of 20 ms are 2 s"
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
        assert (start["mode"], start["audio"]["format"], start["conversation_id"]) == ("live", "pcm16", "c1")
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


class TestConnection:
    async def test_it_comes_back_to_the_same_conversation(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await reply(talk, "t1", "Hi there.", 0.2)
        await expect(page.locator(".reply")).to_contain_text("Hi there.")
        await talk.close()
        await status(page, "Connection lost. Trying again…")
        again = await server.session()
        assert again.messages[0]["conversation_id"] == "c1"
        await status(page, "Listening")
        await until(lambda: again.frames)
        await expect(page.locator(".reply")).to_contain_text("Hi there.")

    async def test_a_deleted_conversation_is_followed_by_a_new_one(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.close()
        again = await server.next_connection()
        assert (await again.expect("session.start"))["conversation_id"] == "c1"
        await again.say("error", code="NOT_FOUND", message="There is no such conversation.", fatal=False)
        fresh = await server.session(conversation_id="c2")
        assert fresh.messages[0]["conversation_id"] is None
        await status(page, "Listening")

    async def test_a_full_server_is_explained_and_asked_again(self, page: Page, server: ScriptedServer) -> None:
        await page.get_by_role("button", name="Start talking").click()
        first = await server.next_connection()
        await first.say("error", code="SERVER_FULL", message="All 5 slots are taken.", fatal=True)
        await first.close(1013)
        await expect(page.get_by_role("alert")).to_contain_text("All seats are taken.")
        await expect(page.get_by_role("alert")).to_contain_text("All 5 slots are taken.")
        await server.session()
        await expect(page.get_by_role("alert")).to_have_count(0)

    async def test_end_closes_everything_and_start_goes_on(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await talk.done("t1", "completed")
        await expect(page.get_by_text("Hello")).to_be_visible()
        await page.get_by_role("button", name="End", exact=True).click()
        await until(lambda: talk.socket.closed)
        await page.get_by_role("button", name="Go on talking").click()
        assert (await server.session()).messages[0]["conversation_id"] == "c1"

    async def test_new_conversation_forgets_the_old_one(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await page.get_by_role("button", name="New conversation").click()
        assert (await server.session()).messages[0]["conversation_id"] is None
        await expect(page.locator(".turn")).to_have_count(0)


def wire_codes(root: type[AvatarError] = AvatarError) -> set[str]:
    return {root.code}.union(*(wire_codes(child) for child in root.__subclasses__())) - {"SETUP"}


class TestProblems:
    @pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
    async def test_each_error_code_is_put_into_words(
        self, browser: Browser, server: ScriptedServer, locale: str
    ) -> None:
        page = await browser.new_page(locale=locale)
        await page.goto(server.url)
        await page.locator(".welcome .wide").click()
        talk = await server.session()
        alert = page.get_by_role("alert")
        texts = {}
        for code in sorted({*wire_codes(), "FROM_THE_FUTURE"}):
            await talk.say("error", code=code, message="Because.", fatal=False)
            await expect(alert).to_have_attribute("data-code", code)
            await expect(alert).to_contain_text("Because.")
            texts[code] = await alert.inner_text()
        assert len(set(texts.values())) == len(texts), "each has its own words"
        for text in texts.values():
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text) == (locale == "zh-CN")

    async def test_error_of_a_turn_stands_in_its_turn(self, page: Page, talk: Connection) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await talk.say("error", code="ENGINE_TIMEOUT", message="No token in 20 s.", fatal=False, turn_id="t1")
        await talk.done("t1", "failed")
        await expect(page.locator("[data-turn=t1] .problem")).to_contain_text("The answer took too long.")
        await status(page, "Listening")

    @pytest.mark.parametrize(
        ("name", "words"), [("NotAllowedError", "Allow it beside the address bar"), ("NotFoundError", "No microphone")]
    )
    async def test_without_a_microphone_one_can_still_type(
        self, browser: Browser, server: ScriptedServer, name: str, words: str
    ) -> None:
        page = await browser.new_page(locale="en-GB")
        await page.add_init_script(
            f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))"
        )
        await page.goto(server.url)
        await page.get_by_role("button", name="Start talking").click()
        talk = await server.session()
        await expect(page.get_by_role("alert")).to_contain_text(words)
        await page.get_by_role("textbox").fill("Hello")
        await page.keyboard.press("Enter")
        await talk.expect("text")


class TestAppearance:
    async def test_language_and_colours_follow_the_browser_until_chosen(
        self, browser: Browser, server: ScriptedServer
    ) -> None:
        context = await browser.new_context(locale="zh-CN", color_scheme="dark")
        page = await context.new_page()
        await page.goto(server.url)
        background = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(background)
        await expect(page.get_by_role("button", name="开始对话")).to_be_visible()
        await page.get_by_role("button", name="浅色").click()
        assert await page.evaluate(background) != dark
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        light = await page.evaluate(background)
        await page.reload()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        assert await page.evaluate(background) == light
        assert await page.locator("html").get_attribute("lang") == "en"
        await context.close()

    async def test_the_newest_words_stay_in_sight_until_one_scrolls_up(self, page: Page, talk: Connection) -> None:
        await page.set_viewport_size({"width": 390, "height": 700})
        for turn in range(4):
            await talk.say("transcript", turn_id=f"t{turn}", text=f"Question {turn}", is_final=True)
            await talk.say("reply.text", turn_id=f"t{turn}", delta="long " * 120 + f"end {turn}", is_final=False)
        await talk.say("error", code="RATE_LIMITED", message="", fatal=False)
        await expect(page.get_by_role("alert")).to_be_visible()
        await until(lambda: below(page, at_most_px=2))
        await page.locator("main").hover()
        await page.mouse.wheel(0, -600)
        await until(lambda: below(page, at_least_px=500))
        await talk.say("reply.text", turn_id="t3", delta="more " * 100, is_final=False)
        await expect(page.locator(".reply").last).to_contain_text("more")
        assert await below(page, at_least_px=500)

    @pytest.mark.parametrize("width", [320, 390, 1400])
    async def test_nothing_sticks_out(self, page: Page, talk: Connection, width: int) -> None:
        await page.set_viewport_size({"width": width, "height": 700})
        await talk.say("transcript", turn_id="t1", text="Donaudampfschifffahrtsgesellschaft" * 3, is_final=True)
        await talk.say("reply.text", turn_id="t1", delta="long " * 200, is_final=False)
        await expect(page.locator(".reply")).to_be_visible()
        await status(page, "Thinking")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        await expect(page.get_by_role("button", name="End", exact=True)).to_be_in_viewport(ratio=1)
        await expect(page.get_by_role("button", name="Stop")).to_be_in_viewport(ratio=1)
