"""The page on the service itself, with fakes for engines: what the two of them keep between connections."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from avatar.server import pages
from tests.browser.scripted_server import WAIT_S
from tests.browser.steps import status
from tests.integration.serving import Server, fake_engines, serving, settings_for
from tests.unit.conversation import Fakes

pytestmark = pytest.mark.browser


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def service(
    page_files: Path, tmp_path: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Server]:
    monkeypatch.setattr(pages, "UI", page_files)
    async with serving(fake_engines(fakes), settings_for(tmp_path)) as running:
        yield running


@pytest_asyncio.fixture
async def visit(browser: Browser, service: Server) -> AsyncIterator[Page]:
    """The page, just opened; the test fails if it threw or broke its Content-Security-Policy."""
    context = await browser.new_context(locale="en-GB", permissions=["microphone"])
    context.set_default_timeout(WAIT_S * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(service.url)
    yield page
    await context.close()
    assert complaints == []


async def say(page: Page, text: str) -> None:
    """Type a turn, and wait until it is over."""
    before = await page.locator('.turn[data-state="completed"]').count()
    await page.get_by_role("textbox", name="Or type a message").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.locator('.turn[data-state="completed"]')).to_have_count(before + 1)


async def test_a_voice_chosen_before_the_first_turn_outlives_a_change_of_mode(visit: Page, fakes: Fakes) -> None:
    chats: list[str] = []
    visit.on("websocket", lambda socket: chats.append(socket.url) if socket.url.endswith("/ws/chat") else None)
    await visit.get_by_role("button", name="Start talking").click()
    await status(visit, "Listening")
    await visit.get_by_role("button", name="Voices", exact=True).click()
    voice = visit.get_by_label("Voice of this conversation")
    await voice.select_option("low hum")
    await visit.keyboard.press("Escape")
    await visit.get_by_role("radio", name="Hold to talk").check(force=True)
    await expect(visit.get_by_role("button", name="Hold to talk")).to_be_visible()
    await say(visit, "Hello?")
    assert fakes.tts.requests[-1][0] == "low hum"
    assert len(chats) == 2, "no connection was wasted"
