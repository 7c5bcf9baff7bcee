"""A page that is not ours beside a server with a key: an ephemeral key, and a microphone that hums at times."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import soundfile
from playwright.async_api import Page

from tests.browser.chromium import chromium
from tests.browser.microphone import RATE_HZ
from tests.integration.serving import Server, fake_engines, serving, settings_for
from tests.unit.conversation import Fakes

KEY = "a-key-of-this-test-0123456789"
WAIT_MS = 20_000


@asynccontextmanager
async def keyed_server(folder: Path, fakes: Fakes) -> AsyncIterator[Server]:
    async with serving(fake_engines(fakes), settings_for(folder, server={"api_keys": [KEY]})) as server:
        yield server


async def ephemeral_key(server: Server, **session: Any) -> str:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        wanted: Any = {"type": "realtime", **session}
        secret = await client.realtime.client_secrets.create(session=wanted)
    return secret.value


@asynccontextmanager
async def listening_page(wav: Path, *rests_s: int) -> AsyncIterator[Page]:
    """An empty page whose microphone is silent for each of `rests_s`, with a second of humming between two of them."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    hum = 0.2 * sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 12))
    said = np.concatenate([part for rest_s in rests_s for part in (hum, np.zeros(rest_s * RATE_HZ))][1:])
    soundfile.write(wav, said, RATE_HZ, subtype="PCM_16")
    async with chromium(wav, loop=False) as browser:
        context = await browser.new_context(permissions=["microphone"])
        yield await context.new_page()
