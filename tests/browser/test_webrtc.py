"""A page of a stranger's, an ephemeral key and the browser's own WebRTC: it is heard, answered and interrupted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile
from playwright.async_api import Page, Route

from tests import realtime_grammar
from tests.browser.chromium import chromium
from tests.browser.microphone import RATE_HZ
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes

pytestmark = pytest.mark.browser

KEY = "a-key-of-this-test-0123456789"
WAIT_MS = 20_000
PAGE = """<!doctype html>
<title>A call</title>
<script>
const events = [];
let peak = 0;
async function call(key) {
  const peer = new RTCPeerConnection();
  const channel = peer.createDataChannel('oai-events');
  channel.onmessage = ({data}) => events.push(JSON.parse(data));
  const audio = new Audio();
  peer.ontrack = ({streams}) => {
    audio.srcObject = streams[0];
    audio.play();
    const context = new AudioContext();
    const meter = context.createAnalyser();
    context.createMediaStreamSource(streams[0]).connect(meter);
    const samples = new Float32Array(meter.fftSize);
    setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      peak = Math.max(peak, ...samples);
    }, 20);
  };
  const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
  peer.addTrack(microphone.getTracks()[0]);
  const offer = await peer.createOffer();
  await peer.setLocalDescription(offer);
  const answer = await fetch('/v1/realtime/calls', {
    method: 'POST',
    body: offer.sdp,  // without a candidate: those come as they are found
    headers: {Authorization: `Bearer ${key}`, 'Content-Type': 'application/sdp'},
  });
  if (!answer.ok) throw new Error(await answer.text());
  await peer.setRemoteDescription({type: 'answer', sdp: await answer.text()});
  window.peer = peer;
}
</script>
"""


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def server(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Server]:
    async with serving(fake_engines(fakes), settings_for(tmp_path, server={"api_keys": [KEY]})) as server:
        yield server


@pytest_asyncio.fixture
async def page(server: Server, tmp_path: Path) -> AsyncIterator[Page]:
    """The page, its microphone silent for two seconds and then humming for one, twice."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    hum = 0.2 * sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 12))
    said = np.concatenate([np.zeros(2 * RATE_HZ), hum, np.zeros(3 * RATE_HZ), hum, np.zeros(9 * RATE_HZ)])
    soundfile.write(tmp_path / "said.wav", said, RATE_HZ, subtype="PCM_16")
    async with chromium(tmp_path / "said.wav", loop=False) as browser:
        context = await browser.new_context(permissions=["microphone"])
        page = await context.new_page()

        async def serve(route: Route) -> None:
            await route.fulfill(body=PAGE, content_type="text/html")

        await page.route("**/call.html", serve)
        await page.goto(f"{server.url}/call.html")
        yield page


async def count(page: Page, type_: str, least: int = 1) -> None:
    """Wait until there have been so many events of that type."""
    condition = "([type, least]) => events.filter(event => event.type === type).length >= least"
    await page.wait_for_function(condition, arg=[type_, least], timeout=WAIT_MS)


async def test_a_page_talks_with_an_ephemeral_key(page: Page, server: Server, fakes: Fakes) -> None:
    fakes.llm.replies = ["One two three four five six seven eight nine ten eleven twelve thirteen fourteen.", "Yes."]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
        secret = await client.realtime.client_secrets.create(session={"type": "realtime", "instructions": "Be brief."})
    await page.evaluate("key => call(key)", secret.value)
    await count(page, "session.created")
    await count(page, "output_audio_buffer.started")
    await page.wait_for_function("peak > 0.1", timeout=WAIT_MS)
    await count(page, "conversation.item.truncated")
    await count(page, "output_audio_buffer.stopped")
    events: list[dict[str, Any]] = await page.evaluate("events")
    assert events[0]["session"]["instructions"] == "Be brief."
    realtime_grammar.check(events)
    await page.evaluate("peer.close()")
    await settled(lambda: server.service.sessions.active == 0)
