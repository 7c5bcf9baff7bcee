"""A page of a stranger's, an ephemeral key and the browser's own WebRTC: it is heard, answered and interrupted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route

from tests import realtime_grammar
from tests.browser.stranger import WAIT_MS, ephemeral_key, keyed_server, listening_page
from tests.integration.serving import Server, settled
from tests.unit.conversation import Fakes

pytestmark = pytest.mark.browser

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
    async with keyed_server(tmp_path, fakes) as server:
        yield server


@pytest_asyncio.fixture
async def page(server: Server, tmp_path: Path) -> AsyncIterator[Page]:
    """The page, its microphone silent for two seconds and then humming for one, twice."""
    async with listening_page(tmp_path / "said.wav", 2, 3, 9) as page:

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
    await page.evaluate("key => call(key)", await ephemeral_key(server, instructions="Be brief."))
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
