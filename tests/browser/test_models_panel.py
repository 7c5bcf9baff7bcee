"""The models panel on the page, on a real server with fakes for engines and a local hub that stalls on demand."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from avatar import choosing
from avatar.engines.registry import EngineSpec
from avatar.hub import catalog
from avatar.server import pages
from tests.browser.scripted_server import WAIT_S
from tests.fakes.gpu import GIB, FakeGpu
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.hub_server import TINY, WHOLE, Fault, Hub, hub
from tests.integration.models_client import received
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled

__all__ = ["hub"]  # the fixture

pytestmark = pytest.mark.browser


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    gpu = FakeGpu()
    gpu.plug_in(monkeypatch)
    return gpu


@pytest_asyncio.fixture
async def server(
    hub: Hub, page_files: Path, tmp_path: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Server]:
    monkeypatch.setattr(pages, "UI", page_files)

    def sing(weights: Path | None, options: Any) -> FakeTextToSpeech:
        gpu.used_bytes += 2 * GIB
        return FakeTextToSpeech()

    specs = (
        EngineSpec("tts", "singer", sing),
        EngineSpec("tts", "orator", lambda weights, options: FakeTextToSpeech(), ("no_such_package",)),
    )
    monkeypatch.setattr(choosing, "BUILTIN", specs)
    async with serving(fake_engines(), settings_for(tmp_path)) as running:
        yield running


@pytest_asyncio.fixture
async def panel(browser: Browser, server: Server) -> AsyncIterator[Page]:
    context = await browser.new_context(locale="en-GB")
    context.set_default_timeout(WAIT_S * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(server.url)
    await page.get_by_role("button", name="Models").click()
    yield page
    await context.close()
    assert complaints == []


async def test_a_model_is_downloaded_paused_and_deleted_by_clicks(panel: Page, server: Server, hub: Hub) -> None:
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=400_000, stall=True))
    row = panel.locator('[data-model="tiny"]')
    await row.get_by_role("button", name="Download").click()
    await expect(row.get_by_role("progressbar")).to_be_visible()
    await expect(row.locator(".news")).to_contain_text("downloading")
    await received(server, 400_000)
    await row.get_by_role("button", name="Pause").click()
    await expect(row.locator(".news")).to_contain_text("paused")
    await row.get_by_role("button", name="Resume").click()
    await expect(row).to_have_attribute("data-state", "present")
    assert (server.service.settings.models_dir / "tiny/sub/model.bin").read_bytes() == WHOLE["sub/model.bin"]
    await row.get_by_role("button", name="Delete").click()
    await expect(row).to_have_attribute("data-state", "absent")
    assert not (server.service.settings.models_dir / "tiny").exists()


async def test_a_model_is_validated_by_a_click(panel: Page, server: Server) -> None:
    row = panel.locator('[data-model="tiny"]')
    await expect(row.get_by_role("button", name="Validate")).to_have_count(0)
    await row.get_by_role("button", name="Download").click()
    await row.get_by_role("button", name="Validate").click()
    await expect(row.locator(".verdict")).to_have_text("All files are right.")
    weights = server.service.settings.models_dir / "tiny/sub/model.bin"
    weights.write_bytes(WHOLE["sub/model.bin"][::-1])
    await row.get_by_role("button", name="Validate").click()
    await expect(row.locator(".verdict")).to_have_text("sub/model.bin: wrong hash")
    weights.unlink()
    await row.get_by_role("button", name="Validate").click()
    await expect(row.locator(".verdict")).to_have_text("Missing: sub/model.bin")


async def test_a_licence_is_accepted_before_the_download(
    panel: Page, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, "tiny", replace(TINY, terms="CC BY-NC 4.0: not for commercial use"))
    await panel.reload()
    await panel.get_by_role("button", name="Models").click()
    row = panel.locator('[data-model="tiny"]')
    async with panel.expect_event("dialog") as asked:
        await row.get_by_role("button", name="Download").click()
    assert (await asked.value).message.startswith("Tiny is licensed under CC BY-NC 4.0: not for commercial use.")
    await expect(row).to_have_attribute("data-state", "present")


async def test_what_goes_wrong_is_shown(panel: Page, hub: Hub) -> None:
    hub.metadata_status = 404
    row = panel.locator('[data-model="tiny"]')
    await row.get_by_role("button", name="Download").click()
    await expect(row.locator(".news")).to_contain_text("it is not there (HTTP 404)")


async def test_an_engine_is_changed_and_unloaded_by_clicks(panel: Page, server: Server) -> None:
    await expect(panel.get_by_role("heading", name="Engines")).to_contain_text("GPU memory: 3.2 GB of 25.8 GB")
    row = panel.locator('[data-stage="tts"]')
    choice = row.get_by_role("combobox")
    await expect(choice.locator("option", has_text="orator")).to_be_disabled()
    before = server.service.lineup.engines.tts
    await choice.select_option("singer")
    await settled(lambda: server.service.lineup.engines.tts is not before)
    await expect(row).to_have_attribute("data-state", "ready")
    await expect(row).to_contain_text("GPU 2.1 GB")
    await row.get_by_role("button", name="Unload").click()
    await expect(row).to_have_attribute("data-state", "unloaded")
