"""Takes the pictures of the page: `python -m tests.browser.screenshot OUT_FOLDER`.

`page.png` is the one in `docs/images`; the others show the other colours, widths, languages and states.
"""

import asyncio
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, Route

from tests.browser.built_page import build
from tests.browser.chromium import chromium
from tests.browser.microphone import hum, tone
from tests.browser.scripted_server import Connection, ScriptedServer

WIDE, TALL, NARROW = (1180, 860), (1180, 1080), (390, 800)
# One turn as it was measured, with the default engines, on 2026-11-26.
STAGES = {
    "endpoint": (0, 224),
    "stt": (101, 134),
    "llm_first_token": (134, 143),
    "first_clause": (143, 199),
    "tts_first_audio": (199, 201),
    "queue": (201, 224),
    "wire": (224, 225),
}

SCENES: dict[str, list[tuple[str, str, str, str]]] = {
    "en": [
        (
            "completed",
            "What's the best time of year to see the northern lights?",
            "Between September and March, when the nights are long and dark. Around the equinoxes the sky is most"
            " active, so late September is a good choice.",
            "",
        ),
        (
            "interrupted",
            "And where should I go?",
            "Tromsø in Norway is the classic answer: it is easy to reach, and right under the oval. Abisko in Sweden"
            " has clearer skies, and Iceland adds hot springs.",
            "Tromsø in Norway is the classic answer: it is easy to reach,",
        ),
        ("open", "Is Tromsø very cold in winter?", "Less than you would think. The sea keeps it around four de", ""),
    ],
    "zh": [
        (
            "completed",
            "什么时候看极光最好？",
            "九月到次年三月之间，夜晚又长又黑。春分、秋分前后最活跃，九月底是个好选择。",
            "",
        ),
        (
            "interrupted",
            "那去哪里好呢？",
            "挪威的特罗姆瑟最经典，交通方便，正好在极光带下。瑞典的阿比斯库天更晴。",
            "挪威的特罗姆瑟最经典，",
        ),
        ("open", "冬天那里很冷吗？", "没有想象中那么冷，海水让气温保持在零下四", ""),
    ],
}


def metrics() -> dict[str, Any]:
    """What the server says of a turn: of each the same, for no other was measured."""
    fields = {"endpoint": "endpoint_ms", "stt": "stt_ms", "llm_first_token": "llm_ttft_ms"}
    fields["tts_first_audio"] = "tts_ttfa_ms"
    return {
        **{field: STAGES[name][1] - STAGES[name][0] for name, field in fields.items()},
        "voice_to_voice_ms": STAGES["queue"][1],
        "trace": [{"name": name, "start_ms": start, "end_ms": end} for name, (start, end) in STAGES.items()],
    }


async def play(connection: Connection, scene: list[tuple[str, str, str, str]]) -> None:
    for n, (status, said, reply, heard) in enumerate(scene):
        turn = f"t{n}"
        await connection.say("transcript", turn_id=turn, text=said, is_final=True)
        await connection.say("reply.text", turn_id=turn, delta=reply, is_final=False)
        await connection.say("reply.audio", turn_id=turn, sample_rate=22050)
        await connection.sound(tone(8 if status == "open" else 1))
        if status != "open":
            await connection.done(turn, status, heard or reply, **metrics())
    await asyncio.sleep(1.2)


VOICES: dict[str, Any] = {
    "id": "voice_1",
    "name": "Samuel",
    "status": "ready",
    "language": "en",
    "reference_text": "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.",
    "owner": "",
    "is_default": True,
    "quality": {"duration_s": 14.2, "speech_s": 11.6, "snr_db": 38.2, "clipped": 0.0, "flaws": []},
    "problem": None,
    "consent_statement": "This is my own voice, or the speaker has agreed that it is cloned and used here.",
    "consent_date": "2026-11-26",
}
"""A voice as the server lists it."""


def listed() -> dict[str, Any]:
    """What the server says of voices, by path."""
    noisy = {**VOICES["quality"], "flaws": ["noisy"]}
    voices = [
        {**VOICES, "id": "voice_3", "name": "王小明", "status": "enrolling", "language": None, "is_default": False},
        VOICES,
        {**VOICES, "id": "voice_2", "name": "Kitchen radio", "status": "failed", "quality": noisy, "is_default": False},
    ]
    speakers = [{"id": "voice_1", "name": "Samuel", "kind": "enrolled", "available": True}]
    speakers += [{"id": name, "name": name, "kind": "builtin", "available": True} for name in ("af_heart", "bm_george")]
    return {
        "/api/voice-profiles?status=all": {"voices": voices},
        "/v1/voices": {"data": speakers},
        "/api/engines": {"high_engine": "qwen3-tts", "gpu": None, "stages": []},
    }


async def _answer(body: dict[str, Any], route: Route) -> None:
    await route.fulfill(json=body)


async def show_voices(page: Page, how: str) -> None:
    """Open the voices panel: its list with one voice unfolded, the form (`new`), or what records (`record`)."""
    for path, body in listed().items():
        await page.route(re.compile(re.escape(path) + "$"), partial(_answer, body))
    await page.locator("nav button").nth(-4).click()
    if how == "list":
        await page.locator("[data-voice=voice_1] .more").click()
    else:
        await page.locator("dialog h3 button").click()
    if how == "record":
        await page.locator(".recorder button").click()
        await asyncio.sleep(2)
    await asyncio.sleep(0.5)


async def shoot(browser: Browser, server: ScriptedServer, out: Path, name: str, **how: Any) -> None:
    width, height = how.get("size", WIDE)
    language = how.get("language", "en")
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=how.get("scale", 1),
        color_scheme=how.get("colours", "light"),
        locale={"en": "en-GB", "zh": "zh-CN"}[language],
        permissions=["microphone"],
    )
    page = await context.new_page()
    await page.goto(server.url)
    if how.get("mode"):
        await page.locator(f"input[value={how['mode']}]").check()
    if how.get("started", True):
        await page.locator(".welcome .wide").click()
        connection = await server.session()
        await play(connection, SCENES[language])
        await page.locator("summary").first.click()
        if how.get("error"):
            await connection.say("error", code="RATE_LIMITED", message="Too many turns in a minute.", fatal=False)
            await connection.say("error", code="ENGINE_TIMEOUT", message="", fatal=False, turn_id="t2")
            await asyncio.sleep(0.5)
    else:
        await asyncio.sleep(0.5)
    if how.get("voices"):
        await show_voices(page, how["voices"])
    await page.screenshot(path=out / f"{name}.png")
    await context.close()


async def shoot_all(built: Path, out: Path) -> None:
    async with chromium(hum(built.parent / "hum.wav")) as browser, ScriptedServer(built) as server:
        await shoot(browser, server, out, "page", size=TALL, scale=1.5)
        await shoot(browser, server, out, "dark", colours="dark")
        await shoot(browser, server, out, "welcome", started=False)
        await shoot(browser, server, out, "errors", error=True)
        await shoot(browser, server, out, "narrow", size=NARROW, colours="dark", mode="push_to_talk")
        await shoot(browser, server, out, "narrow-zh", size=NARROW, language="zh")
        await shoot(
            browser, server, out, "narrow-welcome-zh", size=NARROW, language="zh", started=False, colours="dark"
        )
        for part in ("list", "new", "record"):
            await shoot(browser, server, out, f"voices-{part}", started=False, voices=part)
            await shoot(browser, server, out, f"voices-{part}-dark-zh", colours="dark", language="zh", voices=part)
            await shoot(
                browser, server, out, f"voices-{part}-narrow", size=NARROW, started=False, voices=part, colours="dark"
            )
            await shoot(
                browser, server, out, f"voices-{part}-narrow-zh", size=NARROW, started=False, voices=part, language="zh"
            )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(shoot_all(build(Path(folder) / "page"), target))
