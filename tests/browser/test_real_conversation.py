"""Spoken to, answered and interrupted: the real page, server and models, with a WAV file as the microphone."""

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Page, expect

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample
from tests.browser.chromium import chromium
from tests.browser.microphone import RATE_HZ
from tests.speech import ANSWER, CLEAR_VOICE, COUNTRY, QUESTION, spoken

pytestmark = [pytest.mark.browser, pytest.mark.weights, pytest.mark.timeout(240)]

START_S = 120
ANSWER_MS = 60_000
TRIES = 3
LEAD_S = 4.0
"""Silence before the first word: the page must be listening by then."""


@pytest.fixture(scope="module")
def address(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with a home of its own; gives the page's address."""
    home = tmp_path_factory.mktemp("home")
    log = home / "server.log"
    environment = {**os.environ, "AVATAR_MODELS_DIR": str(models_dir), "AVATAR_DATA_DIR": str(home)}
    command = [str(Path(sys.executable).parent / "avatar"), "serve", "--port", "0"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _until_ready(server, log)
    finally:
        server.terminate()
        server.wait(30)


def _until_ready(server: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline_s = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.2)
        if found := re.search(r"AVATAR is at (http://\S+)", log.read_text()):
            with suppress(OSError), urllib.request.urlopen(f"{found[1]}/readyz", timeout=5):
                return found[1]
    raise AssertionError("The server is not ready:\n" + log.read_text())


async def microphone(path: Path, *script: str | float) -> Path:
    """A WAV file of sentences and of silences in seconds, over the noise of a quiet room."""
    pieces: list[Pcm] = []
    for part in script:
        pieces.append(
            await spoken(part, voice=CLEAR_VOICE)
            if isinstance(part, str)
            else np.zeros(round(part * INPUT_RATE_HZ), np.float32)
        )
    pcm = resample(np.concatenate(pieces), INPUT_RATE_HZ, RATE_HZ)
    noise = np.random.default_rng(0).normal(0, 0.0005, pcm.size)
    soundfile.write(path, pcm + noise, RATE_HZ, subtype="PCM_16")
    return path


@asynccontextmanager
async def visit(address: str, said: Path) -> AsyncIterator[Page]:
    """The page, ready to start, its server warmed up; the microphone says its piece once."""
    async with chromium(said, loop=False) as browser:
        page = await browser.new_page(locale="en-GB")
        await page.goto(address)
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        yield page


async def heard(page: Page) -> tuple[str, float, float]:
    """Which turn the loudspeaker played last, for how long, and its loudest sample."""
    data: dict[str, str] = await page.evaluate("({...document.documentElement.dataset})")
    return data["playedTurn"], float(data["playedMs"]), float(data["playedPeak"])


class Misheard(Exception):
    """The recogniser took it for something else."""


async def understood(page: Page, turn: int, words: str) -> None:
    """What was recognised of a turn, once it is final, has these words in it. Raises `Misheard`."""
    said = page.locator(".turn").nth(turn).locator(".said[data-final=true]")
    await expect(said).to_be_visible(timeout=ANSWER_MS)
    if words not in (text := await said.inner_text()).lower():
        raise Misheard(text)


async def answered(page: Page, turn: int) -> None:
    """The turn asks `QUESTION`, gets its answer, and it sounds. Raises `Misheard`."""
    view = page.locator(".turn").nth(turn)
    await understood(page, turn, f"capital of {COUNTRY.lower()}")
    await expect(view.locator(".reply")).to_contain_text(ANSWER, timeout=ANSWER_MS)
    await expect(view).to_have_attribute("data-state", "completed", timeout=ANSWER_MS)
    await expect(view.locator(".latency")).to_have_text(re.compile(r"^\d+ ms$"))
    turn_id, played_ms, peak = await heard(page)
    assert turn_id == await view.get_attribute("data-turn")
    assert played_ms > 500
    assert peak > 0.05
    await expect(page.get_by_role("alert")).to_have_count(0)


async def converse(address: str, said: Path, talk: Callable[[Page], Awaitable[None]]) -> None:
    """Have the conversation, and again when it was misheard: the recogniser is the smallest there is, the speaker a
    machine, and this is no test of either."""
    misheard = []
    for _ in range(TRIES):
        async with visit(address, said) as page:
            try:
                return await talk(page)
            except Misheard as error:
                misheard.append(str(error))
    pytest.fail(f"Misheard {TRIES} times in a row: {misheard}")


async def test_hands_free_question_is_answered_aloud(address: str, tmp_path: Path) -> None:
    async def talk(page: Page) -> None:
        await page.get_by_role("button", name="Start talking").click()
        await answered(page, 0)

    await converse(address, await microphone(tmp_path / "said.wav", LEAD_S, QUESTION, 60.0), talk)


async def test_push_to_talk_question_is_answered_aloud(address: str, tmp_path: Path) -> None:
    async def talk(page: Page) -> None:
        await page.get_by_role("radio", name="Hold to talk").check()
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("button", name="Hold to talk")).to_be_enabled()
        await page.get_by_role("button", name="Hold to talk").hover()
        await page.mouse.down()
        await asyncio.sleep(LEAD_S + 2.5)
        await page.mouse.up()
        await answered(page, 0)

    await converse(address, await microphone(tmp_path / "said.wav", LEAD_S, QUESTION, 60.0), talk)


async def test_second_question_interrupts_the_reply_to_the_first(address: str, tmp_path: Path) -> None:
    async def talk(page: Page) -> None:
        await page.get_by_role("button", name="Start talking").click()
        await understood(page, 0, "long story")
        first = page.locator(".turn").nth(0)
        await expect(first).to_have_attribute("data-state", "interrupted", timeout=ANSWER_MS)
        await answered(page, 1)

    said = await microphone(tmp_path / "said.wav", LEAD_S, "Tell me a long story.", 3.5, QUESTION, 60.0)
    await converse(address, said, talk)
