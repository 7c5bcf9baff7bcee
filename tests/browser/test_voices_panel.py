"""The voices panel on the page: a real server with real decoders, voice activity and speaker encoder; what hears and
speaks is fake. The microphone says what a man reads aloud."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import soundfile
from playwright.async_api import Browser, Locator, Page, expect

from avatar.core.audio import INPUT_RATE_HZ, resample, silence
from avatar.engines.base import TextToSpeech
from avatar.server import pages
from tests.browser.chromium import chromium
from tests.browser.microphone import RATE_HZ
from tests.browser.steps import visiting
from tests.fakes.cloner import FakeCloner
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.serving import settled
from tests.integration.voices import VoiceClient, at_level, voice_server, wav
from tests.speech import beckett

pytestmark = [pytest.mark.browser, pytest.mark.weights, pytest.mark.timeout(120)]

READ_MS = 7_000
READY_MS = 30_000


@pytest.fixture
def tts() -> FakeCloner:
    return FakeCloner()


@asynccontextmanager
async def serving_page(
    folder: Path, models_dir: Path, page_files: Path, tts: TextToSpeech, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[VoiceClient]:
    monkeypatch.setattr(pages, "UI", page_files)
    async with voice_server(folder, models_dir, tts) as client:
        yield client


@pytest_asyncio.fixture
async def server(
    tmp_path: Path, models_dir: Path, page_files: Path, tts: FakeCloner, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[VoiceClient]:
    async with serving_page(tmp_path, models_dir, page_files, tts, monkeypatch) as client:
        yield client


@pytest_asyncio.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser that hears a man read, over and over."""
    said = tmp_path / "said.wav"
    soundfile.write(said, resample(at_level(beckett()), INPUT_RATE_HZ, RATE_HZ), RATE_HZ, subtype="PCM_16")
    async with chromium(said) as browser:
        yield browser


async def open_panel(page: Page, name: str = "Voices") -> Locator:
    await page.get_by_role("button", name=name, exact=True).click()
    return page.get_by_role("dialog")


async def upload(panel: Page | Locator, recording: bytes, name: str) -> None:
    await panel.get_by_role("button", name="Add a voice").click()
    file = {"name": "recording.wav", "mimeType": "audio/wav", "buffer": recording}
    await panel.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]  # as documented
    await panel.get_by_label("Name", exact=True).fill(name)
    await panel.get_by_role("checkbox").check()
    await panel.get_by_role("button", name="Save voice").click()


async def test_a_voice_is_recorded_in_the_page_heard_and_used(
    reader: Browser, server: VoiceClient, tts: FakeCloner
) -> None:
    async with visiting(reader, server.server.url) as page:
        panel = await open_panel(page)
        await panel.get_by_role("button", name="Add a voice").click()
        await panel.get_by_role("button", name="Record", exact=True).click()
        await expect(panel.get_by_text("The sun was already low")).to_be_visible()
        await page.wait_for_timeout(READ_MS)
        await panel.get_by_role("button", name="Stop").click()
        await expect(panel.get_by_text("s recorded")).to_be_visible()
        await panel.get_by_label("Name", exact=True).fill("Samuel")
        await panel.get_by_label("Language spoken").select_option("en")
        await panel.get_by_role("button", name="Save voice").click()
        await expect(panel.get_by_role("form", name="Add a voice")).to_be_visible()  # nobody has agreed to anything yet
        await panel.get_by_role("checkbox").check()
        await panel.get_by_role("button", name="Save voice").click()
        row = panel.locator("[data-voice]")
        await expect(row).to_have_attribute("data-status", "ready", timeout=READY_MS)
        voice_id = await row.get_attribute("data-voice")
        _, profile = await server.call("GET", f"/api/voice-profiles/{voice_id}")
        assert profile["consent_statement"].startswith("This is my own voice")
        assert (profile["language"], profile["reference_text"]) == ("en", "hello there")

        await row.get_by_role("button", name="More about Samuel").click()
        await expect(row).to_contain_text("A quiet room")
        await row.get_by_label("Speak this").fill("Good morning.")
        async with page.expect_response("**/preview") as heard:
            await row.get_by_role("button", name="Speak", exact=True).click()
        spoken = await (await heard.value).body()
        assert soundfile.info(io.BytesIO(spoken)).duration > 0.1
        await expect(row.get_by_role("button", name="Speak", exact=True)).to_be_visible()  # it was played to its end
        assert tts.requests[-1][0] == voice_id

        await row.get_by_role("button", name="Use", exact=True).click()
        await expect(panel.get_by_label("Voice of this conversation")).to_have_value(voice_id or "")
        await page.keyboard.press("Escape")
        await say(page, "Hello?")
        await settled(lambda: len(tts.requests) > 1)
        assert tts.requests[-1][0] == voice_id
        await expect(page.locator(".turn")).to_have_attribute("data-state", "completed")

        panel = await open_panel(page)  # and now in the middle of the conversation
        await panel.get_by_role("button", name="In use").click()
        await page.keyboard.press("Escape")
        await say(page, "And now?")
        await expect(page.locator(".turn").nth(1)).to_have_attribute("data-state", "completed")
        assert tts.requests[-1][0] is None


async def say(page: Page, text: str) -> None:
    await page.get_by_placeholder("Or type a message").fill(text)
    await page.keyboard.press("Enter")


HESITATING_BROWSER = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wishes) => {
  await new Promise((resolve) => (window.allow = resolve));
  const stream = await open(wishes);
  const [track] = stream.getTracks();
  setInterval(() => (document.body.dataset.microphone = track.readyState), 20);
  return stream;
};
null
"""


async def test_a_panel_closed_while_the_browser_asks_leaves_no_microphone_open(
    browser: Browser, server: VoiceClient
) -> None:
    async with visiting(browser, server.server.url) as page:
        await page.evaluate(HESITATING_BROWSER)
        panel = await open_panel(page)
        await panel.get_by_role("button", name="Add a voice").click()
        await panel.get_by_role("button", name="Record", exact=True).click()
        await page.keyboard.press("Escape")
        await expect(panel).to_have_count(0)
        await page.evaluate("allow()")
        await expect(page.locator("body")).to_have_attribute("data-microphone", "ended")


async def test_a_voice_is_renamed_made_default_and_deleted(
    browser: Browser, server: VoiceClient, tmp_path: Path
) -> None:
    async with visiting(browser, server.server.url) as page:
        panel = await open_panel(page)
        await upload(panel, wav(at_level(beckett())), "Sam")
        row = panel.locator("[data-voice]")
        await expect(row).to_have_attribute("data-status", "ready", timeout=READY_MS)
        await row.get_by_role("button", name="More about Sam").click()
        await row.get_by_label("Name").fill("Samuel")
        await row.get_by_role("button", name="Rename").click()
        await expect(row.locator("b")).to_contain_text("Samuel")
        await row.get_by_role("button", name="Make default").click()
        await expect(row.locator("b")).to_contain_text("default")
        await row.get_by_role("button", name="Delete").click()
        await expect(row).to_have_count(0)
    assert {path.name for path in (tmp_path / "voices").iterdir()} == {".incoming", ".conditioning"}


async def test_why_a_recording_will_not_do_is_said_in_the_language_of_the_page(
    browser: Browser, server: VoiceClient
) -> None:
    _, loud = await server.upload(wav((at_level(beckett()) * 20).clip(-1, 1)), name="Loud")
    await server.enrolled(loud["id"])
    _, silent = await server.upload(wav(silence(80_000)), name="Nobody")
    await server.enrolled(silent["id"])
    async with visiting(browser, server.server.url, "zh-CN") as page:
        panel = await open_panel(page, "声音")
        await expect(panel.locator(f"[data-voice='{loud['id']}']")).to_contain_text("音量过载")
        row = panel.locator(f"[data-voice='{silent['id']}']")
        await expect(row).to_contain_text("Nobody speaks in this recording")
        await row.get_by_role("button", name="重试").click()
        await expect(row).to_have_attribute("data-status", "failed")


async def test_an_enrolment_is_cancelled_by_a_click(browser: Browser, server: VoiceClient, tts: FakeCloner) -> None:
    tts.hold.clear()
    async with visiting(browser, server.server.url) as page:
        panel = await open_panel(page)
        await upload(panel, wav(at_level(beckett())), "Sam")
        row = panel.locator("[data-voice]")
        await expect(row).to_contain_text("teaching the speech engine")
        await row.get_by_role("button", name="Cancel").click()
        await expect(row).to_have_attribute("data-status", "cancelled")
        tts.hold.set()
        await row.get_by_role("button", name="Try again").click()
        await expect(row).to_have_attribute("data-status", "ready", timeout=READY_MS)


async def test_an_engine_that_clones_nothing_is_told_of(
    browser: Browser, tmp_path: Path, models_dir: Path, page_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_page(tmp_path, models_dir, page_files, FakeTextToSpeech(), monkeypatch) as server:
        _, profile = await server.upload(wav(at_level(beckett())))
        await server.enrolled(profile["id"])
        async with visiting(browser, server.server.url) as page:
            await say(page, "Hello?")
            await expect(page.locator(".turn")).to_have_attribute("data-state", "completed")
            panel = await open_panel(page)
            await expect(panel).to_contain_text("clones no voices")
            await panel.get_by_role("button", name="Use", exact=True).click()
            await expect(panel.locator("[data-code=VOICE_FALLBACK]")).to_be_visible()
