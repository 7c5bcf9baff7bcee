"""What the tests of the page share: the page built from its sources, a scripted server, a browser, a microphone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.built_page import build
from tests.browser.chromium import chromium
from tests.browser.microphone import hum
from tests.browser.scripted_server import WAIT_S, Connection, ScriptedServer


@pytest.fixture(scope="session")
def page_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as it is in the working tree now, built."""
    return build(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a voice-like hum, for tests that do not care what is said."""
    return hum(tmp_path_factory.mktemp("microphone") / "hum.wav")


@pytest_asyncio.fixture
async def server(page_files: Path) -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(page_files) as server:
        yield server


@pytest_asyncio.fixture
async def browser(microphone: Path) -> AsyncIterator[Browser]:
    async with chromium(microphone) as browser:
        yield browser


@pytest_asyncio.fixture
async def page(browser: Browser, server: ScriptedServer) -> AsyncIterator[Page]:
    """The page in English, just opened; the test fails if it put an error on the console (CSP breaches included)."""
    context = await browser.new_context(locale="en-GB", permissions=["microphone"])
    context.set_default_timeout(WAIT_S * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(server.url)
    yield page
    await context.close()
    assert complaints == []


@pytest_asyncio.fixture
async def talk(page: Page, server: ScriptedServer) -> Connection:
    """The page, started hands-free, and its connection, ready."""
    await page.get_by_role("button", name="Start talking").click()
    return await server.session()
