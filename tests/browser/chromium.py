"""A headless Chromium with a WAV file as its microphone."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


def find_chromium() -> str:
    """The path of a Chromium. Raises `FileNotFoundError` that says how to get one."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"No Chromium ({', '.join(NAMES)}) on PATH. On Debian: apt-get install chromium.")


@asynccontextmanager
async def chromium(microphone: Path, *, loop: bool = True) -> AsyncIterator[Browser]:
    """A browser whose microphone says what the WAV file says, over and over or once."""
    file = f"{microphone}" if loop else f"{microphone}%noloop"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, args=[*FLAGS, f"--use-file-for-fake-audio-capture={file}"]
        )
        try:
            yield browser
        finally:
            await browser.close()
