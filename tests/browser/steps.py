"""Steps that the tests of the page share: visit it, wait for a state, read the status, let the server reply."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.browser.microphone import tone
from tests.browser.scripted_server import WAIT_S, Connection


async def until(condition: Callable[[], Any], *, within_s: float = WAIT_S) -> None:
    """Waits for something that only the other process can make true; `condition` may be asynchronous."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(0.02)


async def status(page: Page, words: str) -> None:
    await expect(page.get_by_role("status")).to_have_text(words)


async def reply(connection: Connection, turn: str, text: str, seconds: float) -> None:
    """A reply up to its sound; it is not done yet."""
    await connection.say("reply.text", turn_id=turn, delta=text, is_final=False)
    await connection.say("reply.audio", turn_id=turn, sample_rate=22050)
    await connection.sound(tone(seconds))


@asynccontextmanager
async def visiting(browser: Browser, url: str, locale: str = "en-GB") -> AsyncIterator[Page]:
    """The page; the test fails if it threw, or put an error on the console that is no answer of the server's."""
    context = await browser.new_context(locale=locale, permissions=["microphone"])
    context.set_default_timeout(WAIT_S * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(url)
    yield page
    await context.close()
    assert complaints == []
