"""Takes the pictures of the page: `python -m tests.browser.screenshot OUT_FOLDER`.

`page.png` is the one in `docs/images`; the others show the other colours, widths, languages and states.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

from tests.browser.built_page import build
from tests.browser.chromium import chromium
from tests.browser.microphone import hum, tone
from tests.browser.scripted_server import Connection, ScriptedServer

WIDE, TALL, NARROW = (1180, 860), (1180, 1080), (390, 800)
STAGES = {
    "endpoint": (0, 224),
    "stt": (128, 224),
    "llm_first_token": (224, 407),
    "first_clause": (407, 560),
    "tts_first_audio": (560, 601),
    "queue": (601, 612),
    "wire": (612, 613),
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


def metrics(slower: float) -> dict[str, Any]:
    """What the server says of a turn; `slower` makes no two alike."""
    spans = {name: (start_ms * slower, end_ms * slower) for name, (start_ms, end_ms) in STAGES.items()}
    fields = {"endpoint": "endpoint_ms", "stt": "stt_ms", "llm_first_token": "llm_ttft_ms"}
    fields["tts_first_audio"] = "tts_ttfa_ms"
    return {
        **{field: spans[name][1] - spans[name][0] for name, field in fields.items()},
        "voice_to_voice_ms": spans["queue"][1],
        "trace": [{"name": name, "start_ms": start, "end_ms": end} for name, (start, end) in spans.items()],
    }


async def play(connection: Connection, scene: list[tuple[str, str, str, str]]) -> None:
    for n, (status, said, reply, heard) in enumerate(scene):
        turn = f"t{n}"
        await connection.say("transcript", turn_id=turn, text=said, is_final=True)
        await connection.say("reply.text", turn_id=turn, delta=reply, is_final=False)
        await connection.say("reply.audio", turn_id=turn, sample_rate=22050)
        await connection.sound(tone(8 if status == "open" else 1))
        if status != "open":
            await connection.done(turn, status, heard or reply, **metrics(1 + n / 16))
    await asyncio.sleep(1.2)


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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(shoot_all(build(Path(folder) / "page"), target))
