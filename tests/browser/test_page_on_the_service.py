"""The page on the service itself, with fakes for engines: what the two of them keep between connections."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from avatar.server import pages
from tests.browser.steps import status, visiting
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
    async with visiting(browser, service.url) as page:
        yield page


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


async def open_conversations(page: Page) -> Locator:
    await page.get_by_role("button", name="Conversations", exact=True).click()
    return page.get_by_role("dialog")


async def test_a_conversation_is_gone_on_with_after_a_reload(visit: Page, service: Server, fakes: Fakes) -> None:
    await say(visit, "My name is Ada.")
    await visit.reload()
    await expect(visit.locator(".said")).to_contain_text("My name is Ada.")
    assert isinstance(fakes.llm.replies, str)
    await expect(visit.locator(".reply")).to_contain_text(fakes.llm.replies)
    await expect(visit.get_by_role("button", name="Go on talking")).to_be_visible()
    await say(visit, "Who am I?")
    await expect(visit.locator(".turn")).to_have_count(2)
    assert "My name is Ada." in [message.content for message in fakes.llm.requests[-1]]
    _, listed = await service.get("/api/conversations")
    assert len(listed["items"]) == 1


async def test_past_conversations_are_found_opened_heard_and_deleted(visit: Page, service: Server) -> None:
    for text in ("Tell me about Rome.", "And about Oslo?"):
        await say(visit, text)
        await visit.get_by_role("button", name="New conversation").click()
        await expect(visit.locator(".turn")).to_have_count(0)
    panel = await open_conversations(visit)
    rows = panel.locator("[data-conversation]")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("And about Oslo?")
    await panel.get_by_label("Search in what was said").fill("rome")
    await expect(rows).to_have_count(1)
    async with visit.expect_download() as exported:
        await rows.get_by_role("link", name="Export").click()
    assert "Tell me about Rome." in (await (await exported.value).path()).read_text()
    await rows.get_by_role("button", name="Open").click()
    await expect(panel).to_have_count(0)
    await expect(visit.locator(".said")).to_contain_text("Tell me about Rome.")
    async with visit.expect_response("**/audio/reply") as heard:
        await visit.get_by_role("button", name="Play again").click()
    assert (await heard.value).headers["content-type"] == "audio/ogg"
    await expect(visit.get_by_role("button", name="Play again")).to_be_visible()  # it was played to its end
    panel = await open_conversations(visit)
    await expect(rows.nth(1)).to_contain_text("this one")
    await rows.nth(1).get_by_role("button", name="Delete").click()
    await expect(rows).to_have_count(1)
    await expect(visit.locator(".turn")).to_have_count(0)
    _, listed = await service.get("/api/conversations")
    assert [item["title"] for item in listed["items"]] == ["And about Oslo?"]
